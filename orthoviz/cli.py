"""The ``orthoviz`` command. Each subcommand is a few lines over a public function."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (2 for bad input, with one message on stderr)."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ImportError) as error:  # DataError is a ValueError
        print(f"orthoviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\northoviz: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("orthoviz", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the course in JupyterLab")
    lab.add_argument("lesson", nargs="?", default="00_start_here", help="default: %(default)s")
    lab.add_argument("--views", action="store_true", help="open the page with all views instead")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(run=_lab)

    train = commands.add_parser(
        "train",
        help="train a network, or run one of the experiments",
        description="With a recipe: run that experiment, all of its runs; what was done in --out already is "
        "not done again. Without: one run.",
    )
    train.add_argument("recipe", nargs="?", metavar="RECIPE", help="an experiment of --list")
    train.add_argument("--list", action="store_true", help="say what recipes there are, and what they cost")
    train.add_argument(
        "--estimate", action="store_true", help="measure a step here, and say how long it takes"
    )
    train.add_argument("--data", metavar="NAME", help="see 'orthoviz data list'; default: digits")
    train.add_argument("--train", metavar="DIR", help="a folder of classes, read in place")
    train.add_argument("--val", metavar="DIR", help="one to test on, with --train")
    train.add_argument("--size", type=int, metavar="PIXELS", help="of images from --train; default: 224")
    train.add_argument("--model", metavar="NAME", help="default: the one for the images")
    train.add_argument("--optimizer", default="orthogonal_sgd", metavar="NAME", help="default: %(default)s")
    train.add_argument("--epochs", type=int, help="passes over the training images; default: 5")
    train.add_argument("--batch-size", type=int, help="images a step, over all processes; default: 256")
    train.add_argument("--lr", type=float, default=0.01, help="learning rate; default: %(default)s")
    train.add_argument("--momentum", type=float, default=0.9, help="default: %(default)s")
    train.add_argument(
        "--weight-decay", type=float, default=5e-4, help="coupled, as in torch's SGD; default: %(default)s"
    )
    train.add_argument("--seed", type=int, default=0, help="of the initial weights and the batches")
    train.add_argument("--seeds", type=int, help="how many runs of a recipe")
    train.add_argument("--precision", choices=("bf16", "fp16"), help="autocast; default: float32")
    train.add_argument("--accumulate", type=int, default=1, help="parts that a batch is worked on in")
    train.add_argument("--compile", action="store_true", help="train through torch.compile")
    train.add_argument("--out", metavar="FOLDER", help="keep the run there (a recipe's: runs)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.set_defaults(run=_train)

    data = commands.add_parser("data", help="fetch, add, list, show or remove data sets")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download a data set (cifar10)")
    fetch.add_argument("name")
    fetch.add_argument("--url", metavar="MIRROR", help="where else to get the official archive")
    fetch.add_argument("--replace", action="store_true", help="put it in the place of an old one")
    fetch.set_defaults(run=_fetch)
    add = actions.add_parser(
        "add",
        help="add images of your own",
        description="PATH is the official CIFAR-10 archive (python version), or a folder, tar or zip laid "
        "out as <split>/<class>/<image>, with the splits train, and test or val.",
    )
    add.add_argument("name")
    add.add_argument("path")
    add.add_argument("--size", type=int, metavar="PIXELS", help="resize and centre-crop every image")
    add.add_argument("--max-bytes", type=int, metavar="N", help="how much an archive may unpack to")
    add.add_argument("--replace", action="store_true", help="put it in the place of an old one")
    add.add_argument("--no-augment", action="store_true", help="never crop or mirror (digits, letters)")
    add.set_defaults(run=_add)
    actions.add_parser("list", help="the data sets there are").set_defaults(run=_list)
    show = actions.add_parser("show", help="save a contact sheet as a picture")
    show.add_argument("name")
    show.add_argument("--out", metavar="FILE", help="default: NAME-contact-sheet.png")
    show.set_defaults(run=_show)
    remove = actions.add_parser("remove", help="delete a data set that was fetched or added")
    remove.add_argument("name")
    remove.set_defaults(run=_remove)

    results = commands.add_parser("results", help="stored runs, beside the paper's figures")
    actions = results.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what is stored, and what was not run").set_defaults(
        run=_report("listing")
    )
    show = actions.add_parser("show", help="provenance and final accuracies")
    show.set_defaults(run=_report("shown"))
    compare = actions.add_parser("compare", help="who is better, if anyone")
    compare.set_defaults(run=_report("compared"))
    for one in (show, compare):
        one.add_argument("name", help="of a stored table")
    table1 = actions.add_parser("table1", help="the paper's tables 1 and 3 beside ours")
    table1.set_defaults(run=_report("table1"))
    draw = actions.add_parser("draw", help="a picture of every stored table of runs")
    draw.add_argument("folder", metavar="FOLDER", help="for the pictures")
    draw.set_defaults(run=_draw)
    keep = actions.add_parser(
        "store", help="make a stored table of a recipe's runs; steps are timed, so let nothing else run"
    )
    keep.add_argument("recipe")
    keep.add_argument("runs", metavar="FOLDER", help="the --out of its runs")
    keep.add_argument("copy", help="which copy of the data it was, as 'CIFAR-10, official archive'")
    keep.set_defaults(run=_store)

    claims = commands.add_parser("claims", help="what is claimed, and what the stored runs say to it")
    claims.add_argument("name", nargs="?", metavar="NAME", help="one of them in full")
    claims.set_defaults(run=_claims)

    doctor = commands.add_parser(
        "doctor",
        help="say whether this machine is ready for the course, and what to do",
        description="A line a check: ok, note (nothing needs doing), or fix and what to do. "
        "Exit code 1 where something needs doing.",
    )
    doctor.add_argument(
        "--time", nargs="*", metavar="LESSON", help="also run lessons in quick mode, all or as '00 03'"
    )
    doctor.add_argument("--pack", metavar="FOLDER", help="also pack all that a class without internet needs")
    doctor.add_argument("--class", dest="old_pack", metavar="FOLDER", help="the old name of --pack")
    doctor.add_argument("--platform", nargs="+", metavar="NAME", help="with --pack; default: this machine's")
    doctor.add_argument("--python", nargs="+", metavar="VERSION", help="with --pack, as '3.12 3.13'")
    doctor.set_defaults(run=_doctor)
    return parser


def _lab(args: argparse.Namespace) -> int:
    from orthoviz.lab import open_lab

    return open_lab("views" if args.views else args.lesson, browser=not args.no_browser)


def _train(args: argparse.Namespace) -> int:
    import torch

    if "LOCAL_RANK" in os.environ:  # torchrun
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        if args.list:
            return _list_recipes()
        return _recipe(args) if args.recipe else _one_run(args)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _list_recipes() -> int:
    from orthoviz.training import recipes

    for name, recipe in recipes.RECIPES.items():
        print(f"{name}\n    {recipe.what}\n    {recipes.cost(recipe)}")
        if recipe.paper:
            print(f"    the paper: {recipe.paper}")
    print("How long that takes here: orthoviz train RECIPE --estimate")
    return 0


def _recipe(args: argparse.Namespace) -> int:
    from orthoviz.training import recipes

    fixed = ("model", "optimizer", "lr", "momentum", "weight_decay", "seed", "precision", "accumulate")
    plain = _parser().parse_args(["train"])
    if set_too := [name for name in (*fixed, "compile") if getattr(args, name) != getattr(plain, name)]:
        names = ", ".join("--" + name.replace("_", "-") for name in set_too)
        raise ValueError(
            f"{names}: a recipe says that itself; what can be changed is --epochs, --seeds, "
            "--batch-size and the data"
        )
    sizes = None if args.batch_size is None else (args.batch_size,)
    given = {"epochs": args.epochs, "seeds": args.seeds, "batch_sizes": sizes, "data": _data(args)}
    if args.estimate:
        table = recipes.estimate(args.recipe, **given)
        print(table.to_string(index=False, float_format="{:.4g}".format))
        print(f"{table.pflop.sum():.3g} PFLOP, {table.hours.sum():.3g} hours on this machine, measured now")
        return 0
    table = recipes.run(args.recipe, args.out or "runs", **given)
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(table.attrs["verdicts"]))
    return 0


def _data(args: argparse.Namespace) -> Any:
    from orthoviz import datasets

    if args.train or args.val:
        if not (args.train and args.val):
            raise ValueError("--train and --val go together")
        return datasets.folders(args.train, args.val, size=args.size or 224)
    return datasets.load(args.data) if args.data else None


def _one_run(args: argparse.Namespace) -> int:
    import orthoviz as ov

    data = _data(args) or ov.datasets.load("digits")
    name = args.model or ("digits_cnn" if data.shape == (1, 8, 8) else "basic_cnn")
    model = ov.models.named(name, len(data.classes), seed=args.seed)
    made = ov.optim.optimizers(momentum=args.momentum, weight_decay=args.weight_decay)
    makes = {
        key.replace("'", "").replace(",", "").replace(" ", "_").lower(): make for key, make in made.items()
    }
    if args.optimizer not in makes:
        raise ValueError(f"there is no optimiser {args.optimizer!r}; there is: {', '.join(makes)}")
    optimizer = makes[args.optimizer](ov.param_groups(model), args.lr)
    batch_size = 256 if args.batch_size is None else args.batch_size
    epochs = 5 if args.epochs is None else args.epochs
    print(f"{name} on {data}\n{args.optimizer}, lr {args.lr:g}, batch size {batch_size}")
    run = ov.training.fit(
        model, optimizer, data, epochs=epochs, batch_size=batch_size, seed=args.seed,
        precision=args.precision, accumulate=args.accumulate, compile=args.compile,
        out=args.out, resume=args.resume,
    )  # fmt: skip
    print(run.history.to_string(index=False, float_format="{:.4g}".format))
    if run.stopped is None:
        return 0
    return {"interrupted": 130, "terminated": 143}.get(run.stopped.kind, 1)


def _report(action: str) -> Callable[[argparse.Namespace], None]:
    """Prints what a function of :mod:`orthoviz.reports` says of a stored table, or of all."""

    def told(args: argparse.Namespace) -> None:
        from orthoviz import reports

        given = [args.name] if hasattr(args, "name") else []
        said = getattr(reports, action)(*given)
        print(said if isinstance(said, str) else said.reset_index().to_string(index=False))

    return told


def _draw(args: argparse.Namespace) -> None:
    from orthoviz import reports

    print("\n".join(map(str, reports.draw_all(args.folder))))


def _store(args: argparse.Namespace) -> None:
    from orthoviz.training import recipes
    from orthoviz.training.stored import store

    ms = recipes.time_steps(args.recipe)
    what = recipes.recipe(args.recipe).what
    folder = Path(args.runs) / args.recipe
    print(store(folder, args.recipe, what=what, milliseconds=ms, data=args.copy))


def _claims(args: argparse.Namespace) -> None:
    from orthoviz import claims

    print(claims.shown(args.name) if args.name else claims.listing())


def _fetch(args: argparse.Namespace) -> None:
    from orthoviz import datasets

    print(datasets.fetch(args.name, url=args.url, replace=args.replace))


def _add(args: argparse.Namespace) -> None:
    from orthoviz import datasets

    options = {"size": args.size, "max_bytes": args.max_bytes, "replace": args.replace}
    print(datasets.add(args.name, args.path, augment=not args.no_augment, **options))


def _list(args: argparse.Namespace) -> None:
    from orthoviz import datasets

    for name in datasets.available():
        print(datasets.load(name))
    print(f"in {datasets.location()}")


def _show(args: argparse.Namespace) -> None:
    from orthoviz import datasets

    data = datasets.load(args.name)
    out = args.out or f"{args.name}-contact-sheet.png"
    try:
        datasets.contact_sheet(data).save(out)
    except OSError as error:
        raise datasets.DataError(f"The contact sheet could not be written to {out} ({error}).") from error
    print(f"{data}\n{data.source}\nContact sheet: {out}")


def _remove(args: argparse.Namespace) -> None:
    from orthoviz import datasets

    datasets.remove(args.name)
    print(f"Removed {args.name}.")


def _doctor(args: argparse.Namespace) -> int:
    from itertools import chain

    try:
        from orthoviz.course import doctor
        from orthoviz.course.pack import pack
    except ImportError as error:
        print(f"fix   {error} -> run the command again that installed orthoviz")
        return 1
    if args.old_pack:
        print("DeprecationWarning: --class goes in the next release; use --pack", file=sys.stderr)
    folder = args.pack or args.old_pack
    if not folder and (args.platform or args.python):
        raise ValueError("--platform and --python say what --pack FOLDER packs, and need it")
    lessons = () if args.time is None else doctor.time_lessons(args.time)
    packed = pack(folder, args.platform or (), args.python or ()) if folder else ()
    bad = 0
    for finding in chain(doctor.examine(), lessons, packed):
        print(finding, flush=True)
        bad += finding.level == "fix"
    print(f"{bad} to fix" if bad else "all well")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
