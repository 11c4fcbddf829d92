"""``python -m tests.toys.walk FOLDER``: everything a family and a head can do, with two that only lie on the path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    """Create, train, deploy, export, write, load on two backends, verify, import and predict; prints what it found."""
    import zoo
    import zoo.detectors
    import zoo.heads

    zoo.detectors.__path__.append(str(HERE / "detectors"))
    zoo.heads.__path__.append(str(HERE / "heads"))
    from zoo.detectors.registry import architectures, families
    from zoo.hub import bundle
    from zoo.training import make_train_config, train_model

    assert {"toy-n", "toy-m"} <= set(architectures())
    settings = make_train_config(
        arch="toy-n", data="digits", steps=3, batch_size=2, train_length=4, image_size=32, warmup_steps=1
    )
    model = train_model(settings, folder / "run", name="toy")
    card = zoo.info(model)
    deployed, graph = zoo.load(model), zoo.load(model, backend="reference")
    torch.set_grad_enabled(False)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    report = zoo.verify(model, ["norse"], dtype="float64")
    official = {f"theirs.{key}": value for key, value in zoo.load(model, trainable=True).network.state_dict().items()}
    imported = zoo.import_official("toy-n", official, num_classes=10, time_steps=2)
    sys.stdout.write(
        json.dumps(
            {
                "families": sorted(families()),
                "paper": card.paper.title if card.paper else "",
                "difference": float((deployed(image)[0] - graph(image)[0]).abs().max()),
                "boxes": list(deployed.decode(deployed(image)).shape),
                "passed": report.passed,
                "imported": torch.equal(imported.fuse()(image)[0], deployed(image)[0]),
                "detections": len(deployed.predict(torch.rand(3, 40, 50), conf=0.0)),
                "graph": (model / bundle.GRAPH).exists(),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
