"""`ebbtide explain`: one user's state in words and numbers, from a file of events."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.commands import options


def explain(
    user: Annotated[str, typer.Option("--user", "-u", metavar="ID", help="The user_id to explain.")],
    input_: options.InputFile,
    config_file: options.ConfigFileOrDefaults = None,
    bundle: options.BundleFolder = None,
    no_model: options.NoModel = False,
    now: options.Now = None,
    items: options.ItemsFile = None,
    events: Annotated[
        int,
        typer.Option("--events", metavar="N", min=0, help="How many past events to leave out, one by one."),
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of a page.")] = False,
) -> None:
    """Explain one user: what Ebbtide knows, and why it recommends what it does.

    Folds the file and shows the user's windows, lifecycle with its evidence and next deadline, and last
    items; with a model also the last list, and which past events moved it: each event is left out once and
    the list made again, exactly.
    """
    config = options.read_config(config_file)
    chosen = options.choose_bundle(config, bundle, no_model)
    options.check_input(input_)
    if items is not None:
        options.check_input(str(items), "--items")

    from stream.explain import explain_user

    explanation = explain_user(user, input_, config, chosen, now_ms=now, items=items, left_out_max=events)
    if as_json:
        typer.echo(explanation.to_json())
        return

    from stream.explain_page import show

    show(explanation, config)
