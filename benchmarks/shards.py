"""What shards can say, and whether their teachers pay: python benchmarks/shards.py mnist-shards data.root=data

Releases prototypes through shard rows with the whole budget, for each number of shards, with teachers and without,
trains the downstream CNN on 20,000 varied prototypes and tests it on the real test set. `records=N` simulates N records
at the same shard size: noise falls as the number of shards grows, and the shards here stand for all.
Such cells are simulations, not private. Cells that are in the table (results=FILE) already are not measured again.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from prototypes import cnn_accuracy

from dpsad.api.config import Config
from dpsad.data.records import ImageSet
from dpsad.data.shards import shards_of_run
from dpsad.data.sources import load_images
from dpsad.methods.dp_sad.prototype_release import rows_of_shards, rows_of_teachers
from dpsad.methods.dp_sad.prototypes import release_prototypes
from dpsad.methods.dp_sad.release_plans import plan_of_teachers, plans_of_prototypes
from dpsad.methods.dp_sad.shard_teachers import ask_teachers
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.config_files import find_config, load_config
from dpsad.runtime.device import device_named
from teachers.closed_form import ClosedFormTeachers


def option(words: list[str], key: str, default: str) -> str:
    """Takes `key=value` out of the words."""
    found = [word for word in words if word.startswith(f"{key}=")]
    for word in found:
        words.remove(word)
    return found[-1].removeprefix(f"{key}=") if found else default


def measure(config: Config, train: ImageSet, test: ImageSet, num_simulated: int) -> dict:
    """Accuracy of the CNN on prototypes that shards have released, as if there were `num_simulated` records."""
    device, settings = device_named(config.device), config.settings()
    rng = torch.Generator(device).manual_seed(config.seed)
    randomness = PrivateRandomness(device)
    start = time.perf_counter()
    shards = shards_of_run(train.ids, config.shards.num_shards, config.seed).to(device)
    budget = Ledger.of(config.privacy)
    plans = plans_of_prototypes(settings, budget, len(train))
    ledger, clean = Ledger(float("inf"), config.privacy.delta), len(train) / num_simulated
    prototypes = release_prototypes(
        config.prototypes,
        rows=rows_of_shards(settings, train, shards, randomness),
        plans=[plan.with_noise(clean) for plan in plans],
        num_classes=train.num_classes,
        image_shape=train.image_shape,
        ledger=ledger,
        randomness=randomness,
        rng=rng,
    )
    if config.shards.teacher != "none":
        teachers = ClosedFormTeachers(train.images, train.labels, shards)
        prototypes, _ = ask_teachers(
            config.shards,
            count_share=config.prototypes.count_share,
            rows=rows_of_teachers(settings, teachers, None, randomness),
            plan=plan_of_teachers(settings, budget.planned(plans), train.num_classes).with_noise(clean),
            start=prototypes,
            ledger=ledger,
            randomness=randomness,
            rng=rng,
        )
    seconds = time.perf_counter() - start
    accuracy = cnn_accuracy(prototypes, config.augmentation, test, config.seed, rng)
    return {"accuracy": accuracy, "sketch_seconds": round(seconds, 1)}


def main() -> None:
    preset, *words = sys.argv[1:]
    numbers = [int(number) for number in option(words, "shards", "1,10,100,300,1000,2000,6000").split(",")]
    teachers = option(words, "teachers", "none,closed_form").split(",")
    simulated = [int(float(number)) for number in option(words, "records", "0").split(",")]
    results = Path(option(words, "results", "runs/shards.jsonl"))
    base = load_config(Config, base=find_config(preset), overrides=words)
    base = replace(base, refine=replace(base.refine, steps=0))  # nothing kept back for the refinement
    train, test = load_images(base.data, "train"), load_images(base.data, "test")
    train = train.to(device_named(base.device))
    results.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    print(f"{'teacher':12} {'shards':>7} {'records':>12} {'CNN':>8}")
    for num_simulated in simulated:
        for teacher in teachers:
            for number in numbers:
                cell = {
                    "words": words,
                    "preset": preset,
                    "teacher": teacher,
                    "shards": number,
                    "records": num_simulated,
                }
                known = [row for row in done if cell.items() <= row.items()]
                if not known:
                    config = replace(base, shards=replace(base.shards, teacher=teacher, num_shards=number))
                    known = [cell | measure(config, train, test, num_simulated or len(train))]
                    with results.open("a") as file:
                        file.write(json.dumps(known[0]) + "\n")
                print(
                    f"{teacher:12} {number:7} {num_simulated or len(train):12} {known[0]['accuracy']:8.4f}", flush=True
                )


if __name__ == "__main__":
    main()
