"""`ebbtide run`: the worker on Kafka."""

from __future__ import annotations

from stream.commands import options


def run(config_file: options.ConfigFile) -> None:
    """Run the worker on Kafka.

    It joins the consumer group of the config and shares the partitions with the other workers: start as
    many as you like. Metrics and health are served over HTTP, see `[http]` in the config. SIGTERM and Ctrl-C
    finish the batch, commit, and leave.

    A worker's transactional id is made of its group's and its host's name. Several on one host need a name
    each, in the environment variable EBBTIDE_INSTANCE, and the same one at every start.
    """
    config = options.read_config(config_file)
    if config.bundle.path is not None:
        options.choose_bundle(config, None, no_model=False)

    from stream.assembly import run as run_worker

    options.check_client_settings(config)
    run_worker(config)
