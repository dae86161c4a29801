"""The ``orthoviz`` command. Each subcommand is a few lines over a public function."""

import argparse
import sys
from collections.abc import Sequence

MODELS = ("basic_cnn", "digits_cnn")
OPTIMIZERS = ("orthogonal_sgd", "sgd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (2 for bad input, with one message on stderr)."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, OSError) as error:  # DataError is a ValueError
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
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(run=_lab)

    train = commands.add_parser(
        "train", help="train a network", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    train.add_argument("recipe", nargs="?", default=argparse.SUPPRESS, help="one of --list")
    train.add_argument("--data", default="digits", metavar="NAME", help="see 'orthoviz data list'")
    train.add_argument(
        "--model", choices=MODELS, default=argparse.SUPPRESS, help="by default the one for the images"
    )
    train.add_argument("--optimizer", choices=OPTIMIZERS, default=OPTIMIZERS[0], help="rule")
    train.add_argument("--epochs", type=int, default=5, help="passes over the training images")
    train.add_argument("--batch-size", type=int, default=256, help="images a step")
    train.add_argument("--lr", type=float, default=0.01, help="learning rate")
    train.add_argument("--momentum", type=float, default=0.9, help="factor of the buffer")
    train.add_argument("--weight-decay", type=float, default=5e-4, help="coupled, as in torch's SGD")
    train.add_argument("--seed", type=int, default=0, help="of the initial weights and the batches")
    train.add_argument("--seeds", type=int, default=argparse.SUPPRESS, help="how many runs of a recipe")
    train.add_argument("--out", metavar="FOLDER", default="runs", help="of a recipe's runs")
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
    return parser


def _lab(args: argparse.Namespace) -> int:
    from orthoviz.lab import open_lab

    return open_lab(args.lesson, browser=not args.no_browser)


def _train(args: argparse.Namespace) -> None:
    import torch

    import orthoviz as ov

    if hasattr(args, "recipe"):
        found = ov.training.recipes.run(args.recipe, args.out, seeds=getattr(args, "seeds", None))
        print(found.verdict)
        return
    data = ov.datasets.load(args.data)
    name = getattr(args, "model", None) or ("digits_cnn" if data.shape == (1, 8, 8) else "basic_cnn")
    model = getattr(ov.models, name)(len(data.classes), seed=args.seed)
    make = {"orthogonal_sgd": ov.OrthogonalSGD, "sgd": torch.optim.SGD}[args.optimizer]
    optimizer = make(
        ov.param_groups(model), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    print(f"{name} on {data}\n{args.optimizer}, lr {args.lr:g}, batch size {args.batch_size}")
    run = ov.training.fit(
        model, optimizer, data, epochs=args.epochs, batch_size=args.batch_size, seed=args.seed
    )
    print(run.history.to_string(index=False, float_format="{:.4g}".format))


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


if __name__ == "__main__":
    sys.exit(main())
