"""Kafka's errors in the words of the domain: by what there is to do about them.

librdkafka marks the errors of a transactional producer itself: fatal, to be aborted, or to be tried again.
The rest is sorted here by its code. What is left over is a refusal: the broker will not change its mind.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from stream.errors import AbortableError, BrokerError, FencedError, RetriableError, UsageError

#: Someone with the same transactional id or instance id has come after.
_FENCED: Final = frozenset({
    KafkaError._FENCED,
    KafkaError._FATAL,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.PRODUCER_FENCED,
})  # fmt: skip

#: The member's generation is over; its next poll will say what it is assigned now.
_MEMBERSHIP: Final = frozenset({
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,
})  # fmt: skip

#: Passing, but not marked so by librdkafka everywhere.
_PASSING: Final = frozenset({
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_CONTROLLER,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY_BROKER,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._NOENT,  # of the admin client: no leader is known now
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
})  # fmt: skip

#: What a broker answers to a record, and never to the end of a transaction: if a commit fails with one of
#: these, librdkafka has not asked for the end yet. (A sequence is skipped after a record was refused.)
_OF_RECORDS: Final = frozenset({
    KafkaError.INVALID_RECORD,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError._GAPLESS_GUARANTEE,
    KafkaError._INCONSISTENT,
    KafkaError._MSG_TIMED_OUT,
})  # fmt: skip

#: What a call on librdkafka may raise.
RAISED: Final = (KafkaException, SystemError)

_REMEDIES: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic (`ebbtide topics --create`), or correct its name",
    KafkaError._UNKNOWN_TOPIC: "create the topic (`ebbtide topics --create`), or correct its name",
    KafkaError._UNKNOWN_PARTITION: "outputs need as many partitions as events: see `ebbtide topics`",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise max.message.bytes of the topic",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant access to the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant access to the consumer group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant access to the transactional id",
    KafkaError._AUTHENTICATION: "check the credentials in [kafka.client]",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check the credentials in [kafka.client]",
    KafkaError.PRODUCER_FENCED: "give each worker a transactional id of its own",
}


def classify(error: KafkaError, *, place: str) -> BrokerError:
    """Return what a Kafka error means to the caller.

    place: what the call was about: a topic and partition, a group, a transactional id.
    """
    code = error.code()
    what = f"{error.str()} ({error.name()})"
    remedy = _REMEDIES.get(code, "")
    if error.fatal() or code in _FENCED:
        return FencedError(what, place=place, remedy=remedy)
    if error.txn_requires_abort() or code in _MEMBERSHIP:
        return AbortableError(what, place=place, remedy=remedy)
    if error.retriable() or code in _PASSING:
        return RetriableError(what, place=place, remedy=remedy)
    return BrokerError(what, place=place, remedy=remedy)


def refused_setting(exception: KafkaException) -> UsageError:
    """Return the error of a client that librdkafka does not make with the settings given."""
    return UsageError(
        f"librdkafka refuses a setting: {kafka_error(exception).str()}",
        place="[kafka.client]",
        remedy="its CONFIGURATION.md lists the settings; take out or correct the one named",
    )


def before_the_end(error: KafkaError) -> bool:
    """Whether a commit that failed so has not reached the transaction's coordinator."""
    return error.code() in _OF_RECORDS


def kafka_error(exception: BaseException | None) -> KafkaError:
    """Return what an exception of confluent-kafka carries.

    A fatal error is raised from inside a call that may still have callbacks to make. Python code that runs
    with an exception set ends in a SystemError, which then has the KafkaException as its cause; or the
    exception is lost on the way and the call "returned NULL without setting" one. Both times it was fatal.
    """
    otherwise = KafkaError._FAIL
    if isinstance(exception, SystemError):
        exception = exception.__cause__ or exception.__context__ or exception
        otherwise = KafkaError._FATAL
    error = exception.args[0] if isinstance(exception, KafkaException) else None
    return error if isinstance(error, KafkaError) else KafkaError(otherwise, repr(exception))
