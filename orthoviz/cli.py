"""Orthogonalise gradients: lessons, training, data sets, stored runs, and what they say of the claims."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import orthoviz as ov  # its parts are imported when a command uses them

# Control characters, which names from files may hold, as what they are: a terminal would obey them.
_VISIBLE = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (2 for bad input, with one message on stderr)."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may take ASCII only
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    given = vars(_parser().parse_args(argv))
    module, _, function = f"orthoviz.{given.pop('run')}".rpartition(".")
    try:
        result = getattr(importlib.import_module(module), function)(**given)
    except (ValueError, OSError, ImportError) as error:  # DataError is a ValueError
        print(f"orthoviz: {error}".translate(_VISIBLE), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\northoviz: interrupted", file=sys.stderr)
        return 130
    if isinstance(result, int):
        return result
    lines = [] if result is None else [result] if isinstance(result, str | os.PathLike) else result
    try:
        for line in lines:
            print(str(line).translate(_VISIBLE))
        sys.stdout.flush()
    except BrokenPipeError:  # as of "| head": nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _train(recipe: str = "", **given: Any) -> int:
    run: Callable[..., int] = _run_recipe if recipe else _run_once
    if "LOCAL_RANK" not in os.environ:
        return run(recipe, **given)
    import torch  # torchrun has started this process

    if cuda := torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        return run(recipe, **given)
    finally:
        torch.distributed.destroy_process_group()


def _run_recipe(
    name: str, *, estimate: bool = False, batch_size: int | None = None, out: str = "runs",
    resume: bool = True, **given: Any,
) -> int:  # fmt: skip
    """Run a recipe. What is done in its folder already is not done again, with ``resume`` or without."""
    if name == "queue":
        from orthoviz.training import queue

        if given or estimate or batch_size is not None:
            raise ValueError("the queue has the settings of its recipes: give --out alone")
        queue.work(out)
        return 0
    changed = {"epochs", "seeds", "data", "train", "val", "size"}
    if fixed := [f"--{key.replace('_', '-')}" for key in given if key not in changed]:
        says = (
            "a recipe says that itself; what can be changed is --epochs, --seeds, --batch-size and the data"
        )
        raise ValueError(f"{', '.join(fixed)}: {says}")
    given["data"] = _load(given)
    if batch_size is not None:
        given["batch_sizes"] = (batch_size,)
    if estimate:
        table = ov.training.recipes.estimate(name, **given).replace({"optimizer": ov.optim.LABELS})
        print(table.to_string(index=False, float_format="{:.4g}".format))
        print(f"{table.pflop.sum():.3g} PFLOP, {table.hours.sum():.3g} hours on this machine, measured now")
        return 0
    from orthoviz.training.processes import say

    table = ov.training.recipes.run(name, out, **given)
    say("\n".join(table.attrs["verdicts"]))
    return 0


def _run_once(
    _: str, *, model: str = "", optimizer: str = "orthogonal_sgd", lr: float = 0.01, momentum: float = 0.9,
    weight_decay: float = 5e-4, batch_size: int = 256, epochs: int = 5, seed: int = 0, **given: Any,
) -> int:  # fmt: skip
    """Train one network; what else is given goes to :func:`orthoviz.training.fit`."""
    if of_recipe := given.keys() & {"estimate", "seeds"}:
        raise ValueError(f"--{of_recipe.pop()} needs a RECIPE, one of orthoviz train --list")
    if "train" not in given:
        given.setdefault("data", "digits")
    data = _load(given)
    name = model or {(1, 8, 8): "digits_cnn", (3, 32, 32): "basic_cnn"}.get(data.shape, "resnet18")
    network = ov.models.build(name, len(data.classes), seed=seed)
    makes = ov.optim.optimizers(momentum=momentum, weight_decay=weight_decay)
    if optimizer not in makes:
        raise ValueError(f"there is no optimiser {optimizer!r}; there is: {', '.join(makes)}")
    print(f"{name} on {data}\n{optimizer}, lr {lr:g}, batch size {batch_size}".translate(_VISIBLE))
    given |= {"batch_size": batch_size, "epochs": epochs, "seed": seed}
    run = ov.training.fit(network, makes[optimizer](ov.param_groups(network), lr), data, **given)
    print(run.history.to_string(index=False, float_format="{:.4g}".format))
    if run.stopped is None:
        return 0
    return {"interrupted": 130, "terminated": 143}.get(run.stopped.kind, 1)


def _load(given: dict[str, Any]) -> Any:
    """Take what names the data out of the arguments, and load it; None where nothing does."""
    data, train, val = (given.pop(key, None) for key in ("data", "train", "val"))
    size = given.pop("size", None)
    if bool(train) != bool(val):
        raise ValueError("--train and --val go together")
    if data and train:
        raise ValueError("--data, or --train and --val: give one of them")
    if train:
        return ov.datasets.folders(train, val, size=size or 224)
    return ov.datasets.load(data, size=size) if data else None


def _list_recipes(**_: Any) -> str:
    lines = []
    for name, recipe in ov.training.recipes.RECIPES.items():
        lines += [name, f"    {recipe.what}", f"    {ov.training.recipes.cost(recipe)}"]
        lines += [f"    the paper: {recipe.paper}"] * bool(recipe.paper)
    return "\n".join([*lines, "How long that takes here: orthoviz train RECIPE --estimate"])


def _list_data() -> str:
    lines = [str(ov.datasets.load(name)) for name in ov.datasets.available()]
    return "\n".join([*lines, f"in {ov.datasets.location()}"])


def _show_data(name: str, out: str = "") -> str:
    data, out = ov.datasets.load(name), out or f"{name}-contact-sheet.png"
    ov.datasets.contact_sheet(data).save(out)
    return f"{data}\n{data.source}\nContact sheet: {out}"


def _table1() -> str:
    from orthoviz import reports

    return reports.table1().reset_index().to_string(index=False)


def _claims(name: str = "") -> str:
    return ov.claims.describe(name) if name else ov.claims.listing()


def _doctor(
    time: Sequence[str] | None = None, pack: str = "", old_pack: str = "", **targets: Sequence[str]
) -> int:
    try:
        from orthoviz.course import doctor
        from orthoviz.course.pack import pack as pack_class
    except ImportError as error:
        print(f"fix   {error} -> run the command again that installed orthoviz")
        return 1
    if old_pack:
        print("DeprecationWarning: --class goes in the next release; use --pack", file=sys.stderr)
    folder = pack or old_pack
    if targets and not folder:
        raise ValueError("--platform and --python say what --pack FOLDER packs, and need it")
    lessons = () if time is None else doctor.time_lessons(time)
    packed = pack_class(folder, **targets) if folder else ()
    bad = 0
    for finding in chain(doctor.examine(), lessons, packed):
        print(finding, flush=True)
        bad += finding.level == "fix"
    print(f"{bad} to fix" if bad else "all well")
    return min(bad, 1)


def _arg(name: str, text: str = "", **options: Any) -> tuple[str, dict[str, Any]]:
    """What ``add_argument`` takes. What a user does not give is left out: the function has the default."""
    return name, {"help": text, "default": argparse.SUPPRESS, **options}


_FLAG, _OFF = {"action": "store_true"}, {"action": "store_false"}
_NAME, _STORED = _arg("name"), _arg("name", "of a stored table")
_REPLACE = _arg("--replace", "put it in the place of an old one", **_FLAG)
_PIXELS = {"type": int, "metavar": "PIXELS"}

# Of each command, in order: its help; its function, or the table of its own commands; its arguments
_DATA: dict[str, Any] = {
    "fetch": ("download a data set (cifar10)", "datasets.fetch", _NAME, _REPLACE,
              _arg("--url", "where else to get the official archive", metavar="MIRROR")),
    "add": ("add images: PATH is the official CIFAR-10 archive (python version), or a folder laid out "
            "as <split>/<class>/<image>, with the splits train, and test or val",
            "datasets.add", _NAME, _arg("path", metavar="PATH"), _REPLACE,
            _arg("--size", "resize and centre-crop every image", **_PIXELS),
            _arg("--no-augment", "never crop or mirror (digits, letters)", dest="augment", **_OFF)),
    "list": ("the data sets there are", "cli._list_data"),
    "show": ("save a contact sheet as a picture", "cli._show_data", _NAME,
             _arg("--out", "default: NAME-contact-sheet.png", metavar="FILE")),
    "remove": ("delete a data set that was fetched or added", "datasets.remove", _NAME),
}  # fmt: skip
_RESULTS: dict[str, Any] = {
    "list": ("what is stored, and what was not run", "reports.listing"),
    "show": ("provenance and final accuracies", "reports.show", _STORED),
    "compare": ("who is better, if anyone", "reports.compare", _STORED),
    "table1": ("the paper's tables 1 and 3 beside ours", "cli._table1"),
    "draw": ("a picture of every stored table of runs", "reports.draw_all",
             _arg("folder", "for the pictures", metavar="FOLDER")),
    "store": ("make a stored table of a recipe's runs; steps are timed, so let nothing else run",
              "training.stored.store", _arg("recipe"),
              _arg("runs", "the --out of its runs", metavar="FOLDER"),
              _arg("copy", "which copy of the data it was, as 'CIFAR-10, official archive'")),
}  # fmt: skip
_COMMANDS: dict[str, Any] = {
    "lab": ("open your copies of the lessons in JupyterLab", "lab.open_lab",
            _arg("lesson", "its name or how that begins, as 03; default: 00", nargs="?"),
            _arg("--views", "open all views", dest="lesson", action="store_const", const="views"),
            _arg("--fresh", "open an untouched copy; yours is kept beside it", **_FLAG),
            _arg("--no-browser", "print the address only", dest="browser", **_OFF)),
    "train": ("train a network; or run an experiment with all of its runs, but for those that are in --out",
              "cli._train", _arg("recipe", "one of --list, or queue: all that the claims wait for", nargs="?",
                                 metavar="RECIPE"),
              _arg("--list", "say what recipes there are, and what they cost", dest="run",
                   action="store_const", const="cli._list_recipes"),
              _arg("--estimate", "measure a recipe's step here, and say how long it takes", **_FLAG),
              _arg("--data", "see 'orthoviz data list'; default: digits", metavar="NAME"),
              _arg("--train", "a folder of classes, read in place", metavar="DIR"),
              _arg("--val", "one to test on, with --train", metavar="DIR"),
              _arg("--size", "of a folder's images; default: 224", **_PIXELS),
              _arg("--model", "default: the one for the images", metavar="NAME"),
              _arg("--optimizer", "default: orthogonal_sgd", metavar="NAME"),
              _arg("--epochs", "passes over the training images; default: 5", type=float),
              _arg("--batch-size", "images a step, over all processes; default: 256", type=int),
              _arg("--lr", "learning rate; default: 0.01", type=float),
              _arg("--momentum", "default: 0.9", type=float),
              _arg("--weight-decay", "coupled, as in torch's SGD; default: 0.0005", type=float),
              _arg("--seed", "of the initial weights and the batches; default: 0", type=int),
              _arg("--seeds", "how many runs of a recipe", type=int),
              _arg("--precision", "autocast; default: float32", choices=("bf16", "fp16")),
              _arg("--accumulate", "parts that a batch is worked on in; default: 1", type=int),
              _arg("--compile", "train through torch.compile", **_FLAG),
              _arg("--out", "keep the run there (a recipe's: runs)", metavar="FOLDER"),
              _arg("--resume", "go on with the run in --out", **_FLAG)),
    "data": ("fetch, add, list, show or remove data sets", _DATA),
    "results": ("stored runs, beside the paper's figures", _RESULTS),
    "pages": ("write the views as pages that move without a kernel, for any browser",
              "widgets.pages.write_pages", _arg("folder", "for the pages", metavar="FOLDER"),
              _arg("names", "of views; default: all", nargs="*", metavar="VIEW")),
    "class": ("serve a lesson's questions, and the pages of the views, to phones in the room",
              "course.classroom.serve", _arg("lesson", "its number; default: 01", nargs="?"),
              _arg("--pages", "the folder that `orthoviz pages` wrote", metavar="FOLDER"),
              _arg("--bind", "this machine's address for phones, or 0.0.0.0; default: this machine alone",
                   metavar="ADDRESS"),
              _arg("--port", "default: one that is free", type=int),
              _arg("--file", "where guesses are counted; default: guesses.jsonl")),
    "claims": ("what is claimed, and what the stored runs say to it", "cli._claims",
               _arg("name", "one of them in full", nargs="?", metavar="NAME")),
    "doctor": ("say whether this machine is ready for the course, and what to do: a line a check, ok, note "
               "(nothing needs doing) or fix; exit code 1 where something needs doing", "cli._doctor",
               _arg("--time", "also run lessons: all, or as '00 03'", nargs="*", metavar="LESSON"),
               _arg("--pack", "also pack all that a class without internet needs", metavar="FOLDER"),
               _arg("--class", "the old name of --pack", dest="old_pack", metavar="FOLDER"),
               _arg("--platform", "of --pack, default: this one", dest="platforms", nargs="+", metavar="OS"),
               _arg("--python", "of --pack, as '3.12 3.13'", dest="pythons", nargs="+", metavar="VERSION")),
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("orthoviz", description=__doc__)
    _add_commands(parser, "COMMAND", _COMMANDS)
    return parser


def _add_commands(parser: argparse.ArgumentParser, kind: str, table: dict[str, Any]) -> None:
    commands = parser.add_subparsers(required=True, metavar=kind)
    for name, (text, run, *arguments) in table.items():
        command = commands.add_parser(name, help=text, description=text)
        if isinstance(run, dict):
            _add_commands(command, "ACTION", run)
        else:
            command.set_defaults(run=run)
        for argument, options in arguments:
            command.add_argument(argument, **options)


if __name__ == "__main__":
    sys.exit(main())
