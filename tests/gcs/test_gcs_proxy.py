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


def test_link_to_an_objects_content_leads_through_the_proxy_and_not_past_it(proxy, tmp_path):
    _, urls = proxy
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{urls['emulator']}/storage/v1/b?project=nobody", json={"name": "links"}, timeout=_TIMEOUT_S)
        upload = f"{urls['emulator']}/upload/storage/v1/b/links/o?uploadType=media&name=a"
        session.post(upload, data=b"content", timeout=_TIMEOUT_S)
    by_proxy = {"proxies": {"https": urls["proxy"]}, "verify": str(tmp_path / gcs_proxy.AUTHORITY_FILE)}
    link = _get("https://storage.googleapis.com/storage/v1/b/links/o/a", **by_proxy).json()["mediaLink"]
    assert link.startswith("https://storage.googleapis.com/")
    assert _get(link, **by_proxy).content == b"content"


def test_end_of_standard_input_ends_proxy_and_emulator(proxy):
    process, urls = proxy
    buckets = f"{urls['emulator']}/storage/v1/b?project=nobody"
    assert _get(buckets).ok
    process.stdin.close()
    assert process.wait(_TIMEOUT_S) == 0
    with pytest.raises(requests.exceptions.ConnectionError):
        _get(buckets)
