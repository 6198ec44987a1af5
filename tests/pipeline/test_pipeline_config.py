import json

import pytest

from pipeline.config import PipelineConfig, load_config
from trainer.config import ConfigError, EncoderConfig, PretrainConfig, dump
from trainer.config.presets import imagenet_r152_3x_sk_v2


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides)
    return str(error.value)


def test_nothing_given_uses_the_embedded_sample():
    data = load_config().data
    assert (data.unlabeled, data.test) == ("data/cifar10_sample/train.tar", "data/cifar10_sample/test.tar")


def test_own_labels_without_test_images_hold_out_a_share():
    data = load_config(None, ["data.labeled=mine", "data.unlabeled=more"]).data
    assert (data.unlabeled, data.labeled, data.test) == ("more", "mine", None)


def test_labels_alone_are_pretrained_on_as_well():
    assert load_config(None, ["data.labeled=mine"]).data.unlabeled == "mine"


def test_unlabeled_images_alone_are_refused():
    assert "data.labeled must be given" in refused("data.unlabeled=mine")


@pytest.mark.parametrize("source", ["unlabeled", "labeled", "test"])
@pytest.mark.parametrize(
    ("field", "written", "images"),
    [
        ("output", "photos/run", "photos"),
        ("output", "photos", "./photos/"),
        ("retrain.store", "link/store", "photos"),
        ("retrain.store", "gs://b/photos/store/", "gs://b/photos"),
        ("vertex.pipeline_root", "gs://b/runs", "gs://b/"),
        ("beam.dataflow.temp_location", "gs://b/photos/x", "gs://b/photos/"),
    ],
)
def test_what_is_written_is_not_within_what_is_read(tmp_path, monkeypatch, field, written, images, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    sources = {"labeled": "others", source: images}
    given = [*(f"data.{name}={path}" for name, path in sources.items()), f"{field}={written}"]
    message = refused(*given)
    assert message.startswith(f"{field} = {written!r}: inside of data.") and "take a folder beside it" in message


def test_what_is_written_may_lie_beside_what_is_read_or_around_it():
    for written in ("photos-run", "here", "."):
        given = ["data.labeled=here/photos", f"retrain.store={written}", f"output={written}"]
        assert load_config(None, given).output == written


def test_one_field_of_a_section_leaves_its_others_as_they_are():
    default, changed = load_config(), load_config(None, ["pretrain.optimizer.learning_rate=1e-1"])
    assert changed.pretrain.optimizer.learning_rate == 0.1
    assert changed.pretrain.optimizer.weight_decay == default.pretrain.optimizer.weight_decay
    assert changed.supervised == default.supervised


def test_file_and_overrides_given_overrides_win(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("seed: 3\npretrain: {temperature: 1e-1, epochs: 5}\n")
    config = load_config(str(file), ["pretrain.epochs=7"])
    assert (config.seed, config.pretrain.temperature, config.pretrain.epochs) == (3, 0.1, 7)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretrain.temperature=0", ["pretrain.temperature", "0", "greater than 0"]),
        ("pretrain.temperature=-1", ["pretrain.temperature", "-1"]),
        ("pretrain.temprature=1", ["pretrain.temprature", "no such field"]),
        ("fractions=[0]", ["fractions.0", "0", "greater than 0"]),
        ("fractions=[0.1, 0.01]", ["fractions", "rising"]),
        ("fractions=[]", ["fractions", "at least 1"]),
        ("fractions=[1.5]", ["fractions.0", "1.5", "less than or equal to 1"]),
        ("seed=one", ["seed", "one", "integer"]),
        ("seed=1.5", ["seed", "1.5"]),
        ("pretrain.head.kind=deep", ["pretrain.head.kind", "deep", "nonlinear"]),
        ("output=''", ["output", "at least 1 character"]),
        ("pretrain.augment.jitter_strength=1.3", ["jitter_strength", "1.3", "1.25"]),
        ("data=3", ["data", "3"]),
        ("seed", ["override", "seed"]),
        ("seed.x=3", ["seed"]),
        ("beam.workers=0", ["beam.workers", "0"]),
        ("pretrain.batch_size=1", ["pretrain.batch_size", "1", "2"]),
        ("gate.min_top1=.nan", ["gate.min_top1"]),
        ("gate.judged_by=hope", ["gate.judged_by", "interval", "estimate"]),
        ("gate.confidence=1", ["gate.confidence", "less than 1"]),
        ("gate.confidence=0.9999", ["resamples = 10000", "needs 20000 or more"]),
        ("gate.max_regression=1.5", ["gate.max_regression", "1.5", "less than or equal to 1"]),
        ("seed=2024-01-31", ["seed", "2024-01-31", "integer"]),
    ],
)
def test_impossible_value_is_refused_with_field_value_and_rule(override, words):
    message = refused(override)
    assert all(word in message for word in words), message


def test_list_is_not_called_too_short_for_its_bad_item():
    assert refused("fractions=[0]") == "fractions.0 = 0: must be greater than 0"


def test_areas_in_the_wrong_order_are_refused():
    message = refused("pretrain.augment.crop.min_area=0.9", "pretrain.augment.crop.max_area=0.5")
    assert "min_area 0.9" in message


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "pretrain.augment.crop.size_px=32",
            "finetune.augment.crop.size_px=32",
            "supervised.augment.crop.size_px=24",
        ],
        [
            "pretrain.augment.crop.size_px=32",
            "finetune.augment.crop.size_px=24",
            "supervised.augment.crop.size_px=32",
        ],
        ["pretrain.augment.crop.size_px=24"],
        ["finetune.augment.crop.size_px=24"],
    ],
)
def test_size_that_is_not_the_same_in_all_three_trainings_is_refused(overrides):
    message = refused(*overrides)
    assert "same network" in message
    assert "finetune.augment.crop.size_px = " in message


def test_one_size_in_all_three_trainings_passes():
    sections = ("pretrain.augment", "finetune.augment", "supervised.augment")
    config = load_config(None, [f"{section}.crop.size_px=24" for section in sections])
    assert config.finetune.augment.crop.size_px == 24


def test_word_that_yaml_takes_for_a_date_stays_a_word(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("output: 2024-01-31\n")
    assert load_config(str(file)).output == "2024-01-31"


@pytest.mark.parametrize("text", ["seed: [", "- 1\n- 2\n", "just words"])
def test_file_that_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(str(file))


def test_file_that_is_not_there_is_refused_by_name():
    with pytest.raises(ConfigError, match="nowhere"):
        load_config("nowhere.yaml")


def test_dumped_configuration_loads_as_the_same(tmp_path):
    config = load_config(None, ["pretrain.temperature=0.7", "data.labeled=mine", "data.test=theirs"])
    file = tmp_path / "c.yaml"
    file.write_text(dump(config))
    assert load_config(str(file)) == config


def test_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        PipelineConfig().seed = 1


def test_json_round_trip_keeps_every_field():
    config = PipelineConfig()
    assert PipelineConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


def test_gradient_probe_is_refused_with_what_the_pipeline_can():
    assert "choose logistic or ridge" in refused("probe.method=gradient")


def test_preset_of_the_trainer_is_a_start_for_the_pipeline_too():
    config = load_config(None, ["preset=cifar10_r18", "probe.method=ridge"])
    assert (config.pretrain.batch_size, config.pretrain.encoder.width) == (512, 64)


def test_distillation_is_off_and_its_student_like_its_teacher_unless_said_otherwise():
    assert load_config().distill.enabled is False
    config = load_config(None, ["distill.enabled=true", "pretrain.encoder.width=8"])
    assert config.distill.student == config.pretrain.encoder
    assert config.distill.temperature == 1.0  # of self-distillation
    smaller = load_config(
        None, ["pretrain.encoder.block=bottleneck", "distill.student.sk_ratio=0.0625", "distill.student.width=4"]
    ).distill.student
    assert (smaller.block, smaller.sk_ratio, smaller.width) == ("bottleneck", 0.0625, 4)
    given = PipelineConfig(pretrain=PretrainConfig(encoder=EncoderConfig(width=8)))
    assert given.distill.student.width == 8


def test_presets_student_and_settings_come_through_and_whether_to_distil_is_the_users():
    config = load_config(None, ["preset=imagenet_r152_3x_sk_v2", "probe.method=ridge"])
    preset = imagenet_r152_3x_sk_v2().distill
    assert config.distill.model_dump(exclude={"enabled"}) == preset.model_dump()
    assert config.distill.student != config.pretrain.encoder and config.distill.enabled is False
    assert load_config(None, ["preset=cifar10_r18", "probe.method=ridge", "distill.enabled=true"]).distill.enabled


def test_distillation_dumped_loads_as_the_same(tmp_path):
    config = load_config(None, ["distill.enabled=true", "distill.student.stage_blocks=[1, 2]", "distill.epochs=3"])
    assert config.distill.student.stage_blocks == (1, 2)
    file = tmp_path / "c.yaml"
    file.write_text(dump(config))
    assert load_config(str(file)) == config
    assert PipelineConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("distill=3", "distill = 3: must be an object"),
        ("distill.student=3", "distill.student = 3: must be an object"),
        ("distill.student.widht=3", "distill.student.widht: there is no such field"),
        ("distill.enabled=1", "distill.enabled = 1: must be a valid boolean"),
        ("distill.label_weight=1.5", "distill.label_weight = 1.5: must be less than or equal to 1"),
        ("distill.student.sk_ratio=0.1", "distill.student: sk_ratio 0.1 needs block bottleneck"),
        # Told of the teacher alone, whatever the student takes from it.
        ("pretrain.encoder.width=0", "pretrain.encoder.width = 0: must be greater than or equal to 1"),
        ("pretrain.encoder.stage_blocks=[]", "pretrain.encoder.stage_blocks = []"),
    ],
)
def test_impossible_distillation_is_refused_in_one_line(override, told):
    message = refused(override)
    assert message.startswith(told) and "\n" not in message, message


def test_field_that_is_given_twice_is_refused_with_its_line_wherever_it_stands(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("vertex:\n  nodes:\n    ingest: {cpu: 4}\n    ingest: {memory_gb: 32}\n")
    with pytest.raises(ConfigError, match=r"'ingest' is given twice(.|\n)* line 4, column 5"):
        load_config(str(file))
    assert "'team' is given twice" in refused("vertex.labels={team: a, team: b}")


def test_section_whose_fields_are_all_commented_out_is_told_as_such_and_null_as_yaml_writes_it(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("vertex:\n  # project: my-project\n")
    with pytest.raises(ConfigError, match=r"^vertex: has no fields below it; give some, or leave vertex out$"):
        load_config(str(file))
    assert refused("vertex.nodes.ingest=null").startswith("vertex.nodes.ingest: has no fields below it")
    assert refused("vertex.region=null") == "vertex.region = null: must be a valid string"


def test_field_that_a_merged_section_has_too_is_given_anew(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("vertex:\n  nodes:\n    ingest: &one {cpu: 4, retries: 1}\n    check: {<<: *one, cpu: 3}\n")
    nodes = load_config(str(file)).vertex.nodes
    assert (nodes.ingest.cpu, nodes.check.cpu, nodes.check.retries) == (4, 3, 1)


def test_student_of_another_size_is_refused_only_where_there_is_one():
    message = refused("distill.enabled=true", "distill.augment.crop.size_px=24")
    assert "distill.augment.crop.size_px = 24" in message and "same network" in message
    assert load_config(None, ["distill.augment.crop.size_px=24"]).distill.augment.crop.size_px == 24


def test_distillation_uses_the_machines_that_are_hired_for_it():
    machines = (
        "distill.enabled=true",
        "pretrain.compute.strategy=tpu",
        "vertex.pretraining.machine_type=ct5lp-hightpu-4t",
        "vertex.pretraining.tpu_topology=2x2",
    )
    assert "distill.compute.strategy = one_device: vertex.pretraining hires 1 of" in refused(*machines)
    on_tpu = (*machines, "distill.compute.strategy=tpu")
    message = refused(*on_tpu, "distill.batch_size=6")
    assert "distill.batch_size = 6: vertex.pretraining hires 4 replicas" in message and "such as 4" in message
    assert load_config(None, on_tpu).distill.batch_size == 256
    assert load_config(None, machines[1:]).distill.enabled is False
