"""Tables as tools write them, read as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from localization.readers import read_csv
from localization.samples import Listing
from phasewise.data.splits import hashed_split
from phasewise.errors import UserError
from tests.localization.listings import HEIGHT, WIDTH, everything, put
from tests.phasewise.data.folders import names_of, problems_of, warnings_of

BOX = (4, 6, 20, 26)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """``images/0.jpg`` to ``images/5.jpg``."""
    for i in range(6):
        put(tmp_path / "images" / f"{i}.jpg")
    return tmp_path


def read(root: Path, text: str, file: str = "boxes.csv", **more: Any) -> Listing:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)
    return read_csv(root, **{"file": file, "split_seed": 0} | more)


def via(name: str, shape: dict[str, Any], attributes: dict[str, Any]) -> str:
    cells = [json.dumps(it).replace('"', '""') for it in (shape, attributes)]
    return f'{name},1000,{{}},1,0,"{cells[0]}","{cells[1]}"\n'


VIA = "filename,file_size,file_attributes,region_count,region_id,"
VIA += "region_shape_attributes,region_attributes\n"
RECT = {"name": "rect", "x": 4, "y": 6, "width": 16, "height": 20}


@pytest.mark.parametrize(
    "text",
    [
        # TensorFlow, Roboflow
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        + "".join(f"{i}.jpg,{WIDTH},{HEIGHT},cat,4,6,20,26\n" for i in range(6)),
        # makesense, without and with a header
        "".join(f"cat,4,6,16,20,{i}.jpg,{WIDTH},{HEIGHT}\n" for i in range(6)),
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        + "".join(f"cat,4,6,16,20,{i}.jpg,{WIDTH},{HEIGHT}\n" for i in range(6)),
        # keras-retinanet
        "".join(f"/export/images/{i}.jpg,4,6,20,26,cat\n" for i in range(6)),
        # spreadsheets
        "Image Name\tX1\tY1\tX2\tY2\tLabel\n"
        + "".join(f"images/{i}.jpg\t4\t6\t20\t26\tcat\n" for i in range(6)),
        "image,x,y,width,height,class\n" + "".join(f"{i}.jpg,4,6,16,20,cat\n" for i in range(6)),
        "path,left,top,right,bottom,category\n"
        + "".join(f"images\\{i}.jpg,4,6,20,26,cat\n" for i in range(6)),
        # fractions
        "filename,class,xmin,ymin,xmax,ymax\n"
        + "".join(f"{i}.jpg,cat,.1,.2,.5,{26 / 30}\n" for i in range(6)),
        VIA + "".join(via(f"{i}.jpg", RECT, {"class": "cat"}) for i in range(6)),
        "#" + VIA + "".join(via(f"{i}.jpg", RECT, {"kind": "cat"}) for i in range(6)),
    ],
)
def test_tables_of_all_tools_say_the_same(images: Path, text: str) -> None:
    found = read(images, text)
    assert (found.problems, found.class_names) == ([], ["background", "cat"])
    for sample in everything(found).values():
        assert sample.box == pytest.approx(BOX)
    assert names_of(found) == hashed_split([f"images/{i}.jpg" for i in range(6)], 0)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (RECT, BOX),
        ({"name": "circle", "cx": 12, "cy": 14, "r": 8}, (4, 6, 20, 22)),
        ({"name": "ellipse", "cx": 12, "cy": 16, "rx": 8, "ry": 10, "theta": 0}, BOX),
        ({"name": "polygon", "all_points_x": [4, 20, 9], "all_points_y": [26, 8, 6]}, BOX),
    ],
)
def test_shapes_of_via_have_a_box(images: Path, shape: dict[str, Any], box: Any) -> None:
    found = read(images, VIA + "".join(via(f"{i}.jpg", shape, {"class": "cat"}) for i in range(6)))
    assert everything(found)["images/0.jpg"].box == box


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"name": "point", "cx": 12, "cy": 14}, "'point' has no box"),
        ({"name": "ellipse", "cx": 9, "cy": 9, "rx": 8, "ry": 9, "theta": 1}, "a turned ellipse"),
        ({"name": "rect", "x": 4, "y": 6, "width": 16}, "no height"),
        ({"name": "polygon", "all_points_x": [4]}, "'polygon' has no box"),
    ],
)
def test_shapes_without_one_are_told(images: Path, shape: dict[str, Any], reason: str) -> None:
    text = VIA + "".join(via(f"{i}.jpg", RECT, {"class": "cat"}) for i in range(5))
    found = read(images, text + via("5.jpg", shape, {"class": "cat"}))
    assert problems_of(found)["5.jpg"].startswith(reason)


def test_the_attribute_of_via_that_is_the_class(images: Path) -> None:
    def made(attributes: dict[str, Any]) -> Listing:
        return read(images, VIA + "".join(via(f"{i}.jpg", RECT, attributes) for i in range(6)))

    assert made({"colour": "red", "Label": "cat"}).class_names[1:] == ["cat"]
    assert made({"what": {"cat": True, "dog": False}}).class_names[1:] == ["cat"]
    assert made({}).class_names[1:] == ["object"]
    with pytest.raises(UserError, match="regions have colour, size, and none is called class"):
        made({"colour": "red", "size": "big"})


def test_rows_without_a_box_are_images_without_an_object(images: Path) -> None:
    header = "filename,class,xmin,ymin,xmax,ymax\n"
    text = header + "".join(f"{i}.jpg,cat,4,6,20,26\n" for i in range(4)) + "4.jpg,,,,,\n"
    found = read(images, text)
    assert not found.problems
    assert len(everything(found)) == 4
    assert warnings_of(found) == [
        "boxes.csv: 1 of 6 images: not in the annotations, not used (images/5.jpg)",
        "images: 1 of 5 have no object: not used (images/4.jpg)",
    ]
    # the same images in the same splits as if that one had been usable, but not used
    whole = read(images, text.replace(",,,,,", ",cat,4,6,20,26"))
    kept = {split: [n for n in names if "/4." not in n] for split, names in names_of(whole).items()}
    assert names_of(found) == kept


def test_several_rows_of_an_image(images: Path) -> None:
    text = "file,xmin,ymin,xmax,ymax,class\n"
    text += "".join(f"images/{i}.jpg,4,6,20,26,cat\n" for i in range(6))
    text += "images/0.jpg,1,1,39,29,dog\nimages/1.jpg,1,1,2,2,dog\n"
    found = everything(listing := read(images, text))
    assert (found["images/0.jpg"].box, found["images/0.jpg"].class_name) == ((1, 1, 39, 29), "dog")
    assert (found["images/1.jpg"].box, found["images/1.jpg"].class_name) == (BOX, "cat")
    assert warnings_of(listing) == [
        "data.object: 2 of 6 have several objects: the largest is taken "
        "(images/0.jpg, images/1.jpg)"
    ]
    told = problems_of(read(images, text, pick="only"))
    assert told["images/0.jpg"] == "2 objects; data.object=largest takes the largest"


def test_boxes_for_another_size_and_for_the_stored_image(images: Path) -> None:
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    rows = [f"{i}.jpg,{WIDTH},{HEIGHT},cat,4,6,20,26" for i in range(6)]
    rows[1] = f"1.jpg,{WIDTH // 2},{HEIGHT // 2},cat,2,3,10,13"
    rows[2] = f"2.jpg,{WIDTH},{WIDTH},cat,2,3,10,13"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(images / "images/3.jpg", exif=exif)
    rows[3] = f"3.jpg,{HEIGHT},{WIDTH},cat,6,{WIDTH - 20},26,{WIDTH - 4}"
    found = read(images, header + "\n".join(rows))
    boxes = {name: sample.box for name, sample in everything(found).items()}
    assert boxes["images/1.jpg"] == boxes["images/3.jpg"] == BOX
    assert problems_of(found) == {"2.jpg": "boxes.csv says 40x40, the image is 40x30"}
    assert warnings_of(found) == [
        "boxes.csv: 1 of 5 images: boxes are for the image as it is stored: turned by its EXIF tag "
        "(images/3.jpg)",
        "boxes.csv: 1 of 5 images: boxes are for another size of the image: scaled (images/1.jpg)",
    ]


def test_width_and_height_that_are_those_of_the_box_say_nothing_of_the_image(images: Path) -> None:
    header = "file,width,height,xmin,ymin,xmax,ymax\n"
    found = read(images, header + "".join(f"images/{i}.jpg,16,20,4,6,20,26\n" for i in range(6)))
    assert {sample.box for sample in everything(found).values()} == {BOX}
    assert not found.warnings and not found.problems


def test_a_table_per_split(tmp_path: Path) -> None:
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    for split, count in (("train", 3), ("valid", 2)):
        for i in range(count):
            put(tmp_path / split / f"{i}.jpg")
        rows = "".join(f"{i}.jpg,40,30,cat,4,6,20,26\n" for i in range(count))
        (tmp_path / split / "_annotations.csv").write_text(header + rows)
    expected = {
        "train": [f"train/{i}.jpg" for i in range(3)],
        "val": ["valid/0.jpg", "valid/1.jpg"],
        "test": [],
    }
    found = read_csv(tmp_path, file="*/_annotations.csv", split_seed=0)
    assert (names_of(found), found.warnings) == (expected, [])
    found = read_csv(tmp_path, file="boxes.csv", split_seed=0)
    assert names_of(found) == expected
    assert "read instead: train/_annotations.csv, valid/_annotations.csv" in warnings_of(found)[0]


def test_a_column_tells_what_belongs_together(tmp_path: Path) -> None:
    for i in range(12):
        put(tmp_path / f"{i}.jpg")
    text = "file,xmin,ymin,xmax,ymax,Patient\n"
    text += "".join(f"{i}.jpg,4,6,20,26,p{i // 3}\n" for i in range(12))
    found = read(tmp_path, text, group_by="patient")
    homes = [{int(name[:-4]) // 3 for name in part} for part in names_of(found).values()]
    assert sum(map(len, homes)) == 4
    told = "12 of 12 images are in 4 groups (the same in the column patient)"
    assert told in warnings_of(found)[0]
    with pytest.raises(UserError, match=r"is no column \(file, xmin, ymin, xmax, ymax, patient\)"):
        read(tmp_path, text, group_by="patients")


def test_a_header_alone_names_its_file(images: Path) -> None:
    with pytest.raises(UserError, match=r"boxes\.csv has a header and no row: it names no image"):
        read(images, "file,xmin,ymin,xmax,ymax\n")
    with pytest.raises(UserError, match=r"boxes\.csv lacks file.*VIA or makesense as it is"):
        read(images, "a,b\n1,2\n")


def test_a_class_that_no_column_is_called_after_is_told(images: Path) -> None:
    rows = "".join(f"{i}.jpg,WBC,4,6,20,26\n" for i in range(6))
    found = read(images, "filename,cell_type,xmin,ymin,xmax,ymax\n" + rows)
    assert found.class_names == ["background", "object"]
    told = "no column is called as a class: all boxes are of one; not used: cell_type"
    assert warnings_of(found) == [f"boxes.csv: {told}"]
    found = read(images, "filename,width,xmin,ymin,xmax,ymax\n" + rows.replace("WBC", str(WIDTH)))
    assert not warnings_of(found)


def test_where_fractions_begin_is_told(images: Path) -> None:
    rows = "".join(f"{i}.jpg,.5,.5,.4,.4\n" for i in range(6))
    told = warnings_of(read(images, "file,x,y,w,h\n" + rows))[0]
    assert told.endswith("x and y as the upper left corner")
