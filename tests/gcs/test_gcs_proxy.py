"""What the other tests rely on: nobody else is reached, and nothing is left running."""

import gcs_proxy
import pytest
import requests

_TIMEOUT_S = 30


@pytest.fixture
def proxy(tmp_path):
    with gcs_proxy.running(tmp_path) as process_and_urls:
        yield process_and_urls


def _get(url, **settings):
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=_TIMEOUT_S, **settings)


def test_any_other_host_is_refused_and_noted_and_googles_is_the_emulator(proxy, tmp_path):
    _, urls = proxy
    by_proxy = {"proxies": {"https": urls["proxy"]}, "verify": str(tmp_path / gcs_proxy.AUTHORITY_FILE)}
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        _get("https://example.com/", **by_proxy)
    assert (tmp_path / gcs_proxy.REFUSED_FILE).read_text() == "example.com\n"
    listed = _get("https://storage.googleapis.com/storage/v1/b?project=nobody", **by_proxy)
    assert listed.json()["kind"] == "storage#buckets"


def test_end_of_standard_input_ends_proxy_and_emulator(proxy):
    process, urls = proxy
    buckets = f"{urls['emulator']}/storage/v1/b?project=nobody"
    assert _get(buckets).ok
    process.stdin.close()
    assert process.wait(_TIMEOUT_S) == 0
    with pytest.raises(requests.exceptions.ConnectionError):
        _get(buckets)
