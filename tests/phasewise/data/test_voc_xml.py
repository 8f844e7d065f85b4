from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from phasewise.data.voc_xml import Counting, objects_of, parse_annotation, read_annotation
from phasewise.errors import BadSample
from tests.phasewise.data.folders import an_object, annotation

OBJECT = "<object><name>dog</name>{0}</object>"


def _parse(tmp_path: Path, text: str | bytes, **settings: Any) -> Any:
    path = tmp_path / "x.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_annotation(path, "Annotations/x.xml", **settings)


def _refusal(tmp_path: Path, text: str | bytes, **settings: Any) -> str:
    with pytest.raises(BadSample) as caught:
        _parse(tmp_path, text, **settings)
    assert caught.value.problem.file == "Annotations/x.xml"
    return caught.value.problem.reason


def test_boxes_are_one_based_and_inclusive(tmp_path: Path) -> None:
    whole = an_object(xmin=1, ymin=1, xmax=40, ymax=30)
    found = _parse(
        tmp_path, annotation(whole, an_object("cat", "<difficult>1</difficult>")), size=(40, 30)
    )
    assert found.objects[0].box == (0, 0, 40, 30)
    assert found.objects[1].box == (2, 1, 10, 8)
    assert [item.class_name for item in found.objects] == ["dog", "cat"]
    assert [item.difficult for item in found.objects] == [False, True]
    assert found.declared_size == (40, 30)


def test_fractional_coordinates_as_in_voc2012(tmp_path: Path) -> None:
    text = annotation(an_object(xmin="45.70000076293945", xmax="80.5"), size=None)
    found = _parse(tmp_path, text)
    assert found.objects[0].box == pytest.approx((44.70000076293945, 1, 80.5, 8))
    assert found.declared_size is None


@pytest.mark.parametrize(("xmin", "xmax"), [(0.6, 40.4), (0, 41)])
def test_up_to_a_pixel_beyond_the_edge_is_clipped(tmp_path: Path, xmin: Any, xmax: Any) -> None:
    found = _parse(tmp_path, annotation(an_object(xmin=xmin, xmax=xmax)), size=(40, 30))
    assert found.objects[0].box == (0, 1, 40, 8)


def test_a_box_of_one_pixel(tmp_path: Path) -> None:
    found = _parse(tmp_path, annotation(an_object(xmin=40, xmax=40, ymin=1, ymax=1)), size=(40, 30))
    assert found.objects[0].box == (39, 0, 40, 1)


@pytest.mark.parametrize(
    ("counting", "box"), [(Counting(0, 0), (3, 2, 10, 8)), (Counting(0, 1), (3, 2, 11, 9))]
)
def test_what_numbers_mean(tmp_path: Path, counting: Counting, box: Any) -> None:
    path = tmp_path / "x.xml"
    one = an_object(xmin=39, xmax=39, ymin=0, ymax=0)
    path.write_text(annotation(an_object(), one))
    found = objects_of(read_annotation(path), size=(40, 30), counting=counting)
    assert [item.box for item in found] == [box, (39, 0, 40, 1)]
    path.write_text(annotation(an_object(xmax=42)))
    written = read_annotation(path)
    with pytest.raises(BadSample, match=r"x 3\.\.42 lies outside the image 0\.\.(40|39)"):
        objects_of(written, size=(40, 30), counting=counting)


def test_boxes_of_parts_are_ignored(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>99</xmin></bndbox></part>"
    before, after = an_object(extra=part), an_object().replace("</object>", part + "</object>")
    found = _parse(tmp_path, annotation(before, after), size=(40, 30))
    assert [item.box for item in found.objects] == [(2, 1, 10, 8)] * 2


def test_an_annotation_may_name_no_object(tmp_path: Path) -> None:
    assert _parse(tmp_path, annotation()).objects == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OBJECT.format(""), "object 1 ('dog'): no bndbox"),
        (an_object(xmin=""), "no xmin"),
        (an_object().replace("<ymax>8</ymax>", ""), "no ymax"),
        (an_object(xmin="abc"), "xmin='abc' is not a number"),
        (an_object(xmax="nan"), "xmax is not finite"),
        (an_object(xmax="inf"), "xmax is not finite"),
        (an_object(xmax="1e999"), "xmax is not finite"),
        (an_object(xmax=2), "xmax=2 < xmin=3"),
        (an_object(ymin=9), "ymax=8 < ymin=9"),
        (an_object(xmin=-1), "x -1..10 lies outside the image 1..40"),
        (an_object(xmin=-5, xmax=-1), "x -5..-1 lies outside the image 1..40"),
        (an_object(xmin=41, xmax=41), "x 41..41 lies outside the image 1..40"),
        (an_object(xmax=42), "x 3..42 lies outside the image 1..40"),
        (an_object(ymax=32), "y 2..32 lies outside the image 1..30"),
        (an_object(""), "no class name"),
        (an_object("background"), "background cannot be the class"),
        (an_object("dgo"), "object 1 ('dgo'): unknown class; the nearest known is 'dog'"),
        (an_object("zzz"), "unknown class; the nearest known is"),
    ],
)
def test_objects_that_cannot_be_used(tmp_path: Path, text: Any, reason: str) -> None:
    names = ["background", "cat", "dog"]
    assert reason in _refusal(tmp_path, annotation(text), size=(40, 30), class_names=names)


def test_all_problems_of_a_file_are_one_reason(tmp_path: Path) -> None:
    objects = (an_object(xmin="a", ymax="b"), an_object(), an_object("dgo", xmax=1, ymax=99))
    reason = _refusal(
        tmp_path, annotation(*objects), size=(40, 30), class_names=["background", "dog"]
    )
    assert reason.count("object 1") == 2
    assert "object 2" not in reason
    assert reason.count("object 3") == 3
    many = _refusal(tmp_path, annotation(*[an_object(xmin="a")] * 1000))
    assert many.endswith("and 995 more")
    assert len(many) < 400


def test_hostile_text_stays_on_its_line(tmp_path: Path) -> None:
    name = "a&#10;b" + "red" * 1000
    reason = _refusal(
        tmp_path, annotation(an_object(name, xmin="&#10;1" * 500)), class_names=["background"]
    )
    assert "\n" not in reason
    assert len(reason) < 300


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))


@pytest.mark.parametrize(
    "text",
    [
        f"<!DOCTYPE annotation [{LAUGHS}]><annotation>&l9;</annotation>",
        '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<annotation><object><name>&x;</name></object></annotation>",
        '<!DOCTYPE annotation SYSTEM "http://localhost:9/a.dtd"><annotation/>',
        "<!DOCTYPE annotation><annotation/>",
        f"<!DOCTYPE annotation [{LAUGHS}]><annotation>&l9;</annotation>".encode("utf-16"),
    ],
)
def test_entities_and_dtds_are_refused_at_once(tmp_path: Path, text: Any) -> None:
    start = time.perf_counter()
    assert _refusal(tmp_path, text) == "has a DTD or entities, which are refused"
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"text",
        b"<annotation>",
        b"<annotation>&nbsp;</annotation>",
        b"\xff\xfe\x00",
        '<?xml version="1.0" encoding="utf-8"?><annotation>ü</annotation>'.encode("latin-1"),
        b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        b'<?xml version="1.0" encoding="big5"?><annotation/>',
        b'<?xml version="1.0" encoding="utf-7"?><annotation/>',
    ],
)
def test_what_is_not_xml(tmp_path: Path, text: Any) -> None:
    assert _refusal(tmp_path, text).startswith("not XML: ")


def test_other_xml_and_unreadable_files(tmp_path: Path) -> None:
    assert "root is <svg>" in _refusal(tmp_path, "<svg/>")
    with pytest.raises(BadSample, match="cannot be read"):
        parse_annotation(tmp_path / "none.xml", "x")
    deep = "<a>" * 100_000 + "</a>" * 100_000
    assert _parse(tmp_path, annotation(deep)).objects == ()
