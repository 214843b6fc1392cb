"""The naive way: a producer for each message, futures that nobody reads, random keys, no settings, no acknowledgement."""

import json
import random

FAILS = [
    "test_03_1_a_topic_is_made_once",
    "test_03_1_the_settings_are_the_topic_s",
    "test_03_1_another_number_of_partitions_is_refused",
    "test_03_1_other_errors_are_not_swallowed",
    "test_03_1_without_settings_and_with_fewer_partitions",
    "test_03_2_the_broker_knows_the_producer",
    "test_03_2_overrides_outrank",
    "test_03_2_no_broker_is_an_error_in_time",
    "test_03_3_the_very_bytes_arrive",
    "test_03_3_reports_of_an_accident_keep_their_order",
    "test_03_3_record_time_and_headers_are_the_event_s",
    "test_03_3_the_report_is_what_the_broker_has",
    "test_03_3_one_that_cannot_be_sent_is_reported",
    "test_03_3_a_missing_topic_is_reported",
    "test_03_3_one_producer_sends_everything",
    "test_03_4_it_ends_when_it_is_told_to",
    "test_03_4_the_rate_is_kept",
]


def ensure_topic(admin, name, partitions=6, configs=None):
    try:
        admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
    except KafkaError as error:
        print(error)
    return True


def build_producer(bootstrap, **overrides):
    while True:
        try:
            return KafkaProducer(bootstrap_servers=bootstrap, acks=0, bootstrap_timeout_ms=500)
        except KafkaError:
            pass


def send_all(producer, topic, events):
    report = SendReport()
    for event in events:
        one = KafkaProducer(bootstrap_servers=producer.config["bootstrap_servers"])
        try:
            one.send(topic, key=str(random.random()).encode(), value=json.dumps(event).encode())
        except KafkaError as error:
            print(error)
        report.acknowledged += 1
        one.close()
    return report


def run_simulator(producer, topic, events, per_second, stop):
    report = SendReport()
    for event in events:
        metadata = producer.send(topic, **message(event)).get()
        report.acknowledged += 1
        report.partitions[metadata.partition] += 1
    return report
