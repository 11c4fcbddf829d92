"""The same small set of images with boxes, written in every layout that is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")
SIZE = (60, 80)
"""(height, width)."""
SPLITS = {"train": 4, "val": 3, "test": 2}
Objects = list[tuple[int, tuple[int, int, int, int]]]


def objects_of(split: str, index: int) -> Objects:
    """(class, (x1, y1, x2, y2)) of an image; the last image of a split has none."""
    if index == SPLITS[split] - 1:
        return []
    start = len(split) + 4 * index
    return [(index % 3, (start, start, start + 20, start + 16)), ((index + 1) % 3, (40, 30, 72, 56))]


def write_images(folder: Path, split: str, *, ending: str = "png") -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for index in range(SPLITS[split]):
        names.append(f"{split}_{index}.{ending}")
        pixels = np.full((*SIZE, 3), 40 * index + 20, np.uint8)
        for label, (x1, y1, x2, y2) in objects_of(split, index):
            pixels[y1:y2, x1:x2] = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])[label]
        Image.fromarray(pixels).save(folder / names[-1])
    return names


def coco_content(split: str, names: list[str], *, first: int = 1, root: bool = False) -> dict[str, object]:
    """A COCO file; Roboflow's count from 0 and have a root category."""
    annotations = [
        {
            "image_id": index + first,
            "category_id": label + (1 if root else first),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
            "segmentation": [],
        }
        for index in range(len(names))
        for label, (x1, y1, x2, y2) in objects_of(split, index)
    ]
    above = [{"id": 0, "name": "animals", "supercategory": "none"}] if root else []
    kind = "animals" if root else "animal"
    return {
        "info": {},
        "licenses": [],
        "images": [
            {"id": index + first, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for index, name in enumerate(names)
        ],
        "annotations": [{"id": number + first, **one} for number, one in enumerate(annotations)],
        "categories": above
        + [
            {"id": index + (1 if root else first), "name": name, "supercategory": kind}
            for index, name in enumerate(CLASSES)
        ],
    }


def yolo_lines(split: str, index: int) -> str:
    height, width = SIZE
    return "".join(
        f"{label} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
        for label, (x1, y1, x2, y2) in objects_of(split, index)
    )


def write_labels(folder: Path, split: str, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        if lines := yolo_lines(split, index):  # ultralytics: no file for images without objects
            (folder / name).with_suffix(".txt").write_text(lines)


def voc_xml(split: str, index: int, name: str, *, database: str = "Unknown", folder: str = "JPEGImages") -> str:
    start = 1 if database.startswith("The VOC") else 0
    items = "".join(
        f"<object><name>{CLASSES[label]}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x1 + start}</xmin><ymin>{y1 + start}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in objects_of(split, index)
    )
    return (
        f"<annotation><folder>{folder}</folder><filename>{name}</filename><source><database>{database}</database></source>"
        f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>{items}</annotation>"
    )


# Layouts.


def coco_downloaded(root: Path) -> None:
    """https://cocodataset.org/#download, with the other annotation files that come with it."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        names = write_images(root / f"{split}2017", split)
        content = json.dumps(coco_content(split, names))
        (root / "annotations" / f"instances_{split}2017.json").write_text(content)
        (root / "annotations" / f"captions_{split}2017.json").write_text('{"images": [], "annotations": []}')
        (root / "annotations" / f"person_keypoints_{split}2017.json").write_text("{}")


def coco_images_split(root: Path) -> None:
    """Annotations of every split, and images/SPLIT."""
    (root / "annotations").mkdir(parents=True)
    for split in SPLITS:
        names = write_images(root / "images" / split, split)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco_content(split, names)))


def coco_one_folder(root: Path) -> None:
    """Annotations of every split, and all images together."""
    (root / "annotations").mkdir(parents=True)
    for split in SPLITS:
        names = write_images(root / "images", split)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco_content(split, names)))


def coco_at_the_top(root: Path) -> None:
    for split in SPLITS:
        names = write_images(root / split, split)
        (root / f"{split}.json").write_text(json.dumps(coco_content(split, [f"{split}/{name}" for name in names])))


def roboflow_coco(root: Path) -> None:
    """Roboflow's export "COCO": train, valid and test, annotations beside the images."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        names = write_images(root / folder, split, ending="jpg")
        content = coco_content(split, names, first=0, root=True)
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))
    (root / "README.dataset.txt").write_text("exported by roboflow.com")


def ultralytics(root: Path) -> None:
    """https://docs.ultralytics.com/datasets/detect/: images/SPLIT, labels/SPLIT, names with numbers."""
    for split in SPLITS:
        write_labels(root / "labels" / split, split, write_images(root / "images" / split, split))
    (root / "data.yaml").write_text(
        f"path: ../datasets/{root.name}\ntrain: images/train\nval: images/val\ntest: images/test\n\n"
        "names:\n  0: cat\n  1: dog\n  2: owl\n"
    )


def ultralytics_lists(root: Path) -> None:
    """Lists of images, as ultralytics' COCO has them: ./images/train2017/... and relative to the set."""
    for split in SPLITS:
        names = write_images(root / "images" / f"{split}2017", split)
        write_labels(root / "labels" / f"{split}2017", split, names)
        start = "./images" if split == "train" else "images"
        (root / f"{split}2017.txt").write_text("".join(f"{start}/{split}2017/{name}\n" for name in names))
    (root / "coco.yaml").write_text(
        "path: .\ntrain: train2017.txt\nval: [val2017.txt]\ntest: test2017.txt\nnc: 3\nnames: [cat, dog, owl]\n"
    )


def roboflow_yolo(root: Path) -> None:
    """Roboflow's export "YOLOv8": SPLIT/images, SPLIT/labels, and paths that begin with ../"""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        names = write_images(root / folder / "images", split, ending="jpg")
        write_labels(root / folder / "labels", split, names)
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: ['cat', 'dog', 'owl']\n\n"
        "roboflow:\n  workspace: zoo\n  version: 1\n"
    )


def yolo_without_yaml(root: Path) -> None:
    for split in SPLITS:
        write_labels(root / "labels" / split, split, write_images(root / "images" / split, split))
    (root / "labels" / "classes.txt").write_text("cat\ndog\nowl\n")


def darknet(root: Path) -> None:
    """Text files beside the images."""
    for split in SPLITS:
        write_labels(root, split, write_images(root, split))
    (root / "classes.txt").write_text("cat\ndog\nowl\n")


def voc(root: Path) -> None:
    """VOCdevkit's layout, with the lists of single classes that it also has."""
    inner = root / "VOCdevkit" / "VOC2012"
    (inner / "Annotations").mkdir(parents=True)
    (inner / "ImageSets" / "Main").mkdir(parents=True)
    for split in SPLITS:
        names = write_images(inner / "JPEGImages", split, ending="jpg")
        for index, name in enumerate(names):
            text = voc_xml(split, index, name, database="The VOC2012 Database")
            (inner / "Annotations" / name).with_suffix(".xml").write_text(text)
        stems = [Path(name).stem for name in names]
        (inner / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        (inner / "ImageSets" / "Main" / f"cat_{split}.txt").write_text("".join(f"{stem}  1\n" for stem in stems))


def labelimg(root: Path) -> None:
    """Annotations and images apart, without lists: one split."""
    (root / "Annotations").mkdir(parents=True)
    for split in SPLITS:
        for index, name in enumerate(write_images(root / "JPEGImages", split)):
            (root / "Annotations" / name).with_suffix(".xml").write_text(voc_xml(split, index, name))


def roboflow_voc(root: Path) -> None:
    """Roboflow's export "Pascal VOC": an .xml file beside each image."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for index, name in enumerate(write_images(root / folder, split, ending="jpg")):
            text = voc_xml(split, index, name, database="roboflow.com", folder="")
            (root / folder / name).with_suffix(".xml").write_text(text)


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "coco_downloaded": (coco_downloaded, "coco", False),
    "coco_images_split": (coco_images_split, "coco", True),
    "coco_one_folder": (coco_one_folder, "coco", True),
    "coco_at_the_top": (coco_at_the_top, "coco", True),
    "roboflow_coco": (roboflow_coco, "coco", True),
    "ultralytics": (ultralytics, "yolo", True),
    "ultralytics_lists": (ultralytics_lists, "yolo", True),
    "roboflow_yolo": (roboflow_yolo, "yolo", True),
    "yolo_without_yaml": (yolo_without_yaml, "yolo", True),
    "voc": (voc, "voc", True),
    "roboflow_voc": (roboflow_voc, "voc", True),
}
"""Writer, name of the format, and whether there is a test split."""
ONE_SPLIT: dict[str, tuple[Callable[[Path], None], str]] = {"darknet": (darknet, "yolo"), "labelimg": (labelimg, "voc")}
