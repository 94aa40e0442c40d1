"""`ebbtide run`: the worker on Kafka."""

from __future__ import annotations

from stream.commands import options


def run(config_file: options.ConfigFile) -> None:
    """Run the worker on Kafka.

    It joins the consumer group of the config and shares the partitions with the other workers: start as
    many as you like. Metrics and health are served over HTTP, see `[http]` in the config. SIGTERM and Ctrl-C
    finish the batch, commit, and leave.

    Give each worker a name of its own in the environment variable EBBTIDE_INSTANCE, the same one at every
    start: a restarted worker then takes its open transaction back at once. Without one a name is made up.
    """
    config = options.read_config(config_file)
    if config.bundle.path is not None:
        options.choose_bundle(config, None, no_model=False)

    from stream.assembly import run as run_worker

    options.check_client_settings(config)
    run_worker(config)
