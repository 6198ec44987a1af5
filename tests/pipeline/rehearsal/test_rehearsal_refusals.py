"""Jobs that would not run: refused with the node named, before anything has started."""

import pytest

from pipeline.runners.rehearsal.specification import RefusedError


@pytest.fixture
def chain(job):
    """Two tasks, the second of which reads what the first makes."""
    job.container("First", outputs=("model",), parameters={"text": "a", "number": 1.0})
    job.container("Second", inputs={"model": "First.model"})
    return job


def _parameters(job, task="First"):
    return job.tasks[task]["inputs"]["parameters"]


def _other_producer(job):
    job.tasks["Second"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] = "Nobody"


def _other_output(job):
    job.tasks["Second"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["outputArtifactKey"] = "metrics"


def _parameter_of_no_task(job):
    # As `x.future()[0].value` compiles: the name of a task that there isn't.
    source = {"producerTask": "First_task", "outputParameterKey": "accuracy"}
    _parameters(job)["number"] = {"taskOutputParameter": source}


def _input_of_another_type(job):
    examples = {"instanceSchema": "title: tfx.Examples\ntype: object\n"}
    job.components["Second"]["inputDefinitions"]["artifacts"]["model"]["artifactType"] = examples


def _runtime_parameter_in_an_object(job):
    nested = '{"rate": {"__class__": "RuntimeParameter", "__tfx_object_type__": "jsonable", "name": "rate"}}'
    _parameters(job)["text"] = {"runtimeValue": {"constant": nested}}


def _runtime_parameter_without_value(job):
    job.json["pipelineSpec"]["root"]["inputDefinitions"] = {
        "parameters": {"rate": {"parameterType": "NUMBER_DOUBLE"}}
    }


def _constant(name, value):
    return lambda job: _parameters(job).update({name: {"runtimeValue": {"constant": value}}})


def _integer(value):
    def spoil(job):
        job.components["First"]["inputDefinitions"]["parameters"]["number"] = {"parameterType": "NUMBER_INTEGER"}
        _constant("number", value)(job)

    return spoil


_SPOILT = {
    "dangling dependency": (lambda job: job.tasks["Second"]["dependentTasks"].append("Nobody"), "Second", "'Nobody'"),
    "dangling producer": (_other_producer, "Second", "'Nobody', which there isn't"),
    "dangling output": (_other_output, "Second", r"'metrics' of First, which of artifacts makes only \['model'\]"),
    "dangling parameter": (_parameter_of_no_task, "First", "'First_task', which there isn't"),
    "other type of artifact": (_input_of_another_type, "Second", "is a tfx.Examples, and First makes a tfx.Model"),
    "missing parameter": (lambda job: _parameters(job).pop("text"), "First", "parameter 'text' is missing"),
    "missing input": (
        lambda job: job.tasks["Second"]["inputs"].pop("artifacts"),
        "Second",
        "input 'model' is missing",
    ),
    "unknown parameter": (_constant("rate", 1.0), "First", "no parameter 'rate'"),
    "text for a number": (_constant("number", "1"), "First", "is a NUMBER_DOUBLE, and the value is '1'"),
    "number for a text": (_constant("text", 1.0), "First", "is a STRING, and the value is 1.0"),
    "truth for a number": (_constant("number", True), "First", "is a NUMBER_DOUBLE, and the value is True"),
    "fraction for an integer": (_integer(1.5), "First", "is a NUMBER_INTEGER, and the value is 1.5"),
    "runtime parameter in an object": (_runtime_parameter_in_an_object, "First", "RuntimeParameter as an object"),
    "runtime parameter without value": (_runtime_parameter_without_value, "the pipeline", "'rate' has no value"),
    "unknown pipeline parameter": (
        lambda job: job.json["runtimeConfig"].update(parameterValues={"rate": 1}),
        "the pipeline",
        "no parameter 'rate'",
    ),
    "parameter of no pipeline": (
        lambda job: _parameters(job).update(text={"componentInputParameter": "rate"}),
        "First",
        "takes 'rate'",
    ),
    "unknown field": (lambda job: job.tasks["First"].update(retries=3), "First", "retries"),
    "unknown component": (
        lambda job: job.components.pop("First"),
        "First",
        "component 'First', which is not defined",
    ),
    "unknown executor": (lambda job: job.executors.pop("First"), "First", "executor 'First' is not defined"),
    "resolver": (lambda job: job.executors.update(First={"resolver": {}}), "First", "of the kind resolver"),
    "no command": (lambda job: job.executors["First"]["container"].pop("command"), "First", "an image and a command"),
    "cycle": (lambda job: job.tasks["First"].update(dependentTasks=["Second"]), "First", "First, Second"),
    "condition of no input": (
        lambda job: job.tasks["Second"].update(
            triggerPolicy={"condition": "inputs.artifacts['other'].artifacts[0].uri == 'a'"}
        ),
        "Second",
        "looks at 'other'",
    ),
    "condition that cannot be read": (
        lambda job: job.tasks["Second"].update(triggerPolicy={"condition": "1.0 ~ 2.0"}),
        "Second",
        "is not CEL",
    ),
    "value of an artifact": (
        lambda job: job.executors["Second"]["container"]["args"].append("{{$.inputs.artifacts['model'].value}}"),
        "Second",
        "read the value of an artifact inside the container",
    ),
    "placeholder in a value": (
        _constant("text", "{{$.pipeline_job_create_time_utc}}"),
        "First",
        "parameter 'text': the placeholder .*create_time_utc.* in a value cannot be filled in",
    ),
    "placeholder of no input": (
        lambda job: job.executors["First"]["container"]["args"].append("{{$.inputs.parameters['rate']}}"),
        "First",
        "is of none of the component's parameters",
    ),
    "workers on Dataflow": (
        lambda job: job.executors["First"]["container"]["args"].append("--runner=DataflowRunner"),
        "First",
        "would hire workers on Dataflow",
    ),
    "image without the program": (
        lambda job: job.executors["First"]["container"].update(command=["no-such-program"]),
        "First",
        "image lacks the program 'no-such-program'",
    ),
    "old schema": (
        lambda job: job.json["pipelineSpec"].update(schemaVersion="2.0.0"),
        "the pipeline",
        "use_pipeline_spec_2_1=True",
    ),
    "no root": (lambda job: job.json["runtimeConfig"].pop("gcsOutputDirectory"), "the pipeline", "is missing"),
}


@pytest.mark.parametrize("fault", _SPOILT)
def test_fault_is_refused_with_its_node_before_anything_runs(fault, chain, rehearsal):
    spoil, node, words = _SPOILT[fault]
    spoil(chain)
    with pytest.raises(RefusedError, match=words) as refused:
        rehearsal(chain)
    assert refused.value.node == node
    assert str(refused.value).startswith(f"{node}: ")
    assert rehearsal.most_running == 0


def test_same_job_unspoilt_runs(chain, rehearsal):
    rehearsal(chain)
    assert rehearsal.states == {"First": "SUCCEEDED", "Second": "SUCCEEDED"}


def test_importer_whose_uri_is_no_parameter_is_refused(job, rehearsal):
    job.container("Import", outputs=("model",))
    job.executors["Import"] = {"importer": {"artifactUri": {"runtimeParameter": "artifact_uri"}}}
    with pytest.raises(RefusedError, match="'artifact_uri', which is missing") as refused:
        rehearsal(job)
    assert refused.value.node == "Import"


def test_folder_whose_name_would_break_a_command_line_is_refused(job, rehearsal, tmp_path):
    job.container("First")
    rehearsal.folder = tmp_path / 'a"b'
    rehearsal.folder.mkdir()
    with pytest.raises(ValueError, match="no quote or backslash"):
        rehearsal(job)
