"""Templates in services, as Go's text/template and Swarm's functions give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model.container import ContainerSpec, Mount
from cluster.model.service import ServiceSpec
from cluster.model.volume import VolumeSpec
from cluster.templates import Place, TemplateError, expand_service, expand_volume, render, task_values

VALUES = task_values(
    service="svc1",
    name="shop_web",
    labels={"zone": "north", "com.example/x": "1"},
    task="t1",
    slot="3",
    place=Place("n1", "host-1", "linux", "x86_64"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain { } }} text", "plain { } }} text"),
        ("{{.Service.ID}} {{ .Service.Name }}", "svc1 shop_web"),
        (
            "{{.Node.ID}}/{{.Node.Hostname}}/{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}",
            "n1/host-1/linux/x86_64",
        ),
        ("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "t1 shop_web.3.t1 3"),
        ("{{.Service.Labels}}", "map[com.example/x:1 zone:north]"),
        ("{{.Service.Labels.zone}}", "north"),
        ('{{index .Service.Labels "com.example/x"}}', "1"),
        ('{{index .Service.Labels "absent"}}', ""),
        ('{{join "-" .Service.Name .Task.Slot "end"}}', "shop_web-3-end"),
        ('{{"quoted \\" }} \\n"}}', 'quoted " }} \n'),
        ("{{`raw {{ \\n`}}", "raw {{ \\n"),
        ('{{"{{"}}.Task.Slot}}', "{{.Task.Slot}}"),
        ('{{.Task.Slot | printf "web-%s"}}', "web-3"),
        ('{{printf "%q %v %d %%" "a" true 7}}', '"a" true 7 %'),
        ('{{(index .Service.Labels "zone") | len}}', "5"),
        ("a  {{- /* nothing */ -}}  b", "ab"),
        ("a {{- .Task.Slot -}} b", "a3b"),
        ('{{if eq .Task.Slot "1"}}first{{else if eq .Task.Slot "3"}}third{{else}}other{{end}}!', "third!"),
        ('{{if not (index .Service.Labels "absent")}}none{{end}}', "none"),
        ('{{if and .Task.Slot (ne .Task.Slot "4")}}x{{end}}{{or "" "y"}}', "xy"),
        ('{{true}} {{42}} {{print 1 "a"}}', "true 42 1a"),
    ],
)
def test_a_template_gives(text: str, expected: str) -> None:
    assert render(text, VALUES) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Task.Slot", "no end"),
        ("{{}}", "empty"),
        ("{{.Task.Speed}}", r"at '{{\.Task\.Speed}}': there is no \.Task\.Speed"),
        ("{{.Service.Labels.absent}}", r"no \.Service\.Labels\.absent"),
        ("{{.Mood}}", r"no \.Mood"),
        ("{{mood}}", "no function mood"),
        ("{{range .Service.Labels}}x{{end}}", "range is not supported"),
        ("{{$x := 1}}", "not understood"),
        ("{{if true}}x", "the if has no end"),
        ("x{{end}}", "end without an if"),
        ("{{if true}}a{{else}}b{{else}}c{{end}}", "second else"),
        ("{{(join}}", "not closed"),
        ("{{.Task.ID .Task.ID}}", "too much"),
        ("{{.Task.ID | .Task.ID}}", "only a function"),
        ('{{"\\x"}}', "not understood"),
        ('{{printf "%s"}}', "no value for"),
        ("{{join 1 2}}", "takes texts"),
        ('{{env "PATH"}}', "no function env"),
    ],
)
def test_what_is_no_template_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        render(text, VALUES)


def test_contents_have_functions_of_their_own() -> None:
    functions = {"env": lambda given: f"<{given[0]}>"}
    assert render('{{env "HOME"}}', VALUES, functions) == "<HOME>"


@given(st.text(alphabet='{}-.() |"`\\abif endlse/*0Task\n', max_size=60))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    try:
        assert isinstance(render(text, VALUES), str)
    except TemplateError as error:
        assert error.message


def test_a_service_is_expanded_where_swarm_expands_it() -> None:
    mounts = (Mount("volume", "/data/{{.Task.Slot}}", "shop_data-{{.Task.Slot}}"),)
    container = ContainerSpec(
        "box:{{.Task.Slot}}",
        environment={"SLOT": "{{.Task.Slot}}", "B": "b"},
        hostname="h{{.Task.Slot}}",
        mounts=mounts,
    )
    made = expand_service(ServiceSpec("web", container), VALUES).container
    assert made.environment == {"SLOT": "3", "B": "b"}
    assert (made.hostname, made.mounts) == ("h3", (Mount("volume", "/data/3", "shop_data-3"),))
    assert made.image == "box:{{.Task.Slot}}", "images have no templates"
    volume = VolumeSpec("d", "d-{{.Task.Slot}}", driver_options={"o": "{{.Node.ID}}"}, labels={"l": "{{.Task.ID}}"})
    assert expand_volume(volume, VALUES) == VolumeSpec("d", "d-3", driver_options={"o": "n1"}, labels={"l": "t1"})


def test_a_mistake_in_a_service_is_told_with_its_field() -> None:
    spec = ServiceSpec("web", ContainerSpec("box", environment={"A": "{{.Oops}}"}))
    with pytest.raises(TemplateError, match=r"^environment\.A: at '\{\{\.Oops\}\}': there is no \.Oops"):
        expand_service(spec, VALUES)
