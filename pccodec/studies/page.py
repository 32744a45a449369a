"""The page of the studies: ``python -m pccodec.studies.page`` brings ``docs/masklayer.md`` up to date.

Its tables stand between ``<!-- NAME -->`` and ``<!-- end -->`` and are written anew from the committed
results; everything between them is written by hand and stays. The plots of the hashing studies
are drawn beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pccodec.errors import InputError
from pccodec.evaluation.command import command
from pccodec.io import atomic_write
from pccodec.studies.arms import LENGTHS, RESULTS
from pccodec.studies.plot import plot_costs

PAGE = RESULTS.parent / "masklayer.md"
MODEL_CARD = Path(__file__).parents[2] / "models" / "hash3.json"
_MISSING = "*These results are not here.*"
_SEPARATE = "separate"
_METRICS = {
    "digits": ("map", "p10"),
    "shapes": ("map", "p1"),
    "shapes_long": ("map", "p1"),
    "shapes_released": ("map", "p1"),
}
NAMES = (
    "codec",
    "retrieval",
    "retrieval_held_out",
    "retrieval_ignoring_size",
    *(f"{s} {m}" for s, found in _METRICS.items() for m in (*found, "cost")),
)
"""The tables that a page may ask for."""

_BLOCK = re.compile(r"(<!-- (?!end)([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Rows = Sequence[Mapping[str, Any]]


def fill(text: str, tables: Mapping[str, str]) -> str:
    """The page's text with each marked block replaced by the table of its name, which may be missing.

    Raises:
        InputError: a block names no table.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[2]
        if name not in NAMES:
            raise InputError(f"the page asks for {name!r}; there is {', '.join(NAMES)}")
        return f"{match[1]}{tables.get(name, _MISSING)}\n{match[3]}"

    return _BLOCK.sub(replaced, text)


def summary(rows: Rows, metric: str) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """Values (seeds,) of a metric by optimizer and arm, and by bits, in the order of the rows."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        arm = found.setdefault((row["optimizer"], row["arm"]), {})
        arm.setdefault(row["bits"], []).append(row[metric])
    return {key: {bits: np.array(v) for bits, v in values.items()} for key, values in found.items()}


def arm_table(rows: Rows, metric: str) -> str:
    """Mean and standard deviation over the seeds: an arm a line, a column for each length."""
    optimizers = {row["optimizer"] for row in rows}
    seconds = summary(rows, "cpu_s")
    lines = []
    for (optimizer, arm), values in summary(rows, metric).items():
        name = f"{arm} ({optimizer.upper()})" if optimizer == "sgd" and len(optimizers) > 1 else arm
        own = seconds[optimizer, arm]
        # Separate models are as many trainings as there are lengths.
        cost = sum(v.mean() for v in own.values()) if arm == _SEPARATE else own[LENGTHS[0]].mean()
        lines.append([name, *(spread(values[bits]) for bits in LENGTHS), f"{cost:.1f}"])
    return table(["arm", *(f"{bits} bits" for bits in LENGTHS), "CPU s"], lines)


def cost_table(rows: Rows, metric: str) -> str:
    """Each arm minus the separate models of the same seed and optimizer: mean and standard deviation."""
    found = summary(rows, metric)
    lines = []
    for (optimizer, arm), values in found.items():
        base = found[optimizer, _SEPARATE]
        if arm == _SEPARATE:
            continue
        name = f"{arm} (SGD)" if optimizer == "sgd" else arm
        cells = [spread(values[bits] - base[bits], sign=True) for bits in LENGTHS]
        worst = min(float((values[bits] - base[bits]).mean()) for bits in LENGTHS)
        lines.append([name, *cells, f"{worst:+.1f}"])
    return table(["arm", *(f"{bits} bits" for bits in LENGTHS), "worst"], lines)


def codec_table(results: Mapping[str, Any]) -> str:
    """What the codec's study wrote: loss, and BD-rates against its baseline and the separate models."""
    told = results["summary"]
    lines = []
    for arm, loss in told["loss"].items():
        cells = [_stored(loss, "{:.3f}")]
        for anchor in ("against_plain", "against_separate"):
            rates = told.get(anchor, {}).get(arm, {})
            cells.append(_stored(rates.get("bd_rate_d1"), "{:+.1f}"))
        lines.append([arm, *cells])
    return table(["arm", "loss", "BD-rate (D1) against plain, %", "against separate models, %"], lines)


def retrieval_table(card: Mapping[str, Any], key: str = "retrieval") -> str:
    """Precision@1 of a model: a condition a line, the very mesh / the same shape.

    The last column has the meshes that were not trained on, if there are any.
    """
    unseen = card["meshes"]["unseen"]
    conditions: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in card[key]:
        conditions.setdefault(row["condition"], {})[row["bits"]] = row
    lines = []
    for condition, by_bits in conditions.items():
        whole = by_bits[LENGTHS[-1]]
        cells = [f"{by_bits[bits]['p1_mesh']:.3f} / {by_bits[bits]['p1_shape']:.3f}" for bits in LENGTHS]
        if unseen:
            cells.append(f"{whole['p1_mesh_unseen']:.3f} / {whole['p1_shape_unseen']:.3f}")
        lines.append([condition, *cells])
    titles = ["queries", *(f"{bits} bits" for bits in LENGTHS)]
    return table(
        [*titles, f"{LENGTHS[-1]} bits, {unseen} meshes not trained on"] if unseen else titles, lines
    )


def table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns but the first are aligned right."""
    rule = ["---", *("---:" for _ in titles[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (titles, rule, *lines))


def spread(values: np.ndarray, sign: bool = False) -> str:
    """Mean ± standard deviation of a sample."""
    mean = f"{values.mean():+.1f}" if sign else f"{values.mean():.1f}"
    return f"{mean} ± {values.std(ddof=1):.1f}" if len(values) > 1 else mean


def _stored(value: Mapping[str, Any] | None, form: str) -> str:
    if value is None or value["mean"] is None:
        return "–"
    deviation = "" if value["sd"] is None else f" ± {form.replace('+', '').format(value['sd'])}"
    return form.format(value["mean"]) + deviation


def tables(folder: Path, card: Path) -> dict[str, str]:
    """All tables for which results are there, by name."""
    out: dict[str, str] = {}
    for study, metrics in _METRICS.items():
        results = _read(folder / f"masklayer_{study}.json")
        if results is not None:
            for metric in metrics:
                out[f"{study} {metric}"] = arm_table(results["rows"], metric)
            out[f"{study} cost"] = cost_table(results["rows"], "map")
    sources: list[tuple[str, Path, Callable[[Any], str]]] = [
        ("codec", folder / "masklayer_codec.json", codec_table),
        ("retrieval", card, retrieval_table),
        ("retrieval_held_out", folder / "hash_held_out.json", retrieval_table),
        (
            "retrieval_ignoring_size",
            card,
            lambda told: retrieval_table(told, "retrieval_ignoring_size"),
        ),
    ]
    for name, file, make in sources:
        results = _read(file)
        if results is not None:
            out[name] = make(results)
    return out


def _read(file: Path) -> Any:
    """A JSON file's content, or None if it is missing.

    Raises:
        InputError: it is no JSON.
    """
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{file} is not a file of results: {error}") from error


@command
def main(arguments: list[str] | None = None) -> None:
    """Write the tables of the page and draw its plots."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of masklayer_*.json")
    parser.add_argument("--model", type=Path, default=MODEL_CARD, help="JSON file of the hashing model")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to bring up to date; plots beside it")
    options = parser.parse_args(arguments)
    if not options.page.is_file():
        raise InputError(f"there is no page {options.page} to bring up to date")
    text = fill(options.page.read_text(), tables(options.results, options.model))
    with atomic_write(options.page) as file:
        file.write(text.encode())
    for study in ("digits", "shapes"):
        results = _read(options.results / f"masklayer_{study}.json")
        if results is not None:
            costs = summary([row for row in results["rows"] if row["optimizer"] == "adam"], "map")
            plot_costs(
                {arm: values for (_, arm), values in costs.items()},
                options.page.with_name(f"masklayer_{study}.png"),
                f"mAP on {study}, points",
            )


if __name__ == "__main__":
    sys.exit(main())
