/*
 * The benchmark's own client over librdkafka, for what rdkafka_performance cannot do: round trips, with
 * latencies counted from the time at which a record was due (no coordinated omission), payloads that
 * compress about as text does, and counted consumption of several partitions.
 *
 *   bench_client trips   BOOTSTRAP TOPIC COUNT SIZE            closed loop: produce, flush, consume, again
 *   bench_client rate    BOOTSTRAP TOPIC PER_SECOND SECONDS SIZE   open loop on a fixed schedule
 *   bench_client peak    BOOTSTRAP TOPIC COUNT SIZE            the same, as fast as it goes: the highest rate
 *   bench_client produce BOOTSTRAP TOPIC PARTITIONS COUNT SIZE [KEY=VALUE ...]
 *   bench_client consume BOOTSTRAP TOPIC FIRST_PARTITION PARTITIONS COUNT
 *
 * Prints one line of JSON. start_ns and end_ns are CLOCK_MONOTONIC, comparable between processes.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "rdkafka.h"

#define WARM_UP_TRIPS 300
#define WARM_UP_SECONDS 1
#define MESSAGE_TIMEOUT_MS 30000
#define TEXT_SIZE (1 << 20)

static int64_t failed, delivered;

static void die(const char *what, const char *why) {
        fprintf(stderr, "bench_client: %s: %s\n", what, why);
        exit(1);
}

static int64_t now_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void sleep_until(int64_t due_ns) {
        struct timespec due = {due_ns / 1000000000LL, due_ns % 1000000000LL};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL))
                ;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk;
        (void)opaque;
        if (message->err)
                failed++;
        else
                delivered++;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
        char why[512];
        if (rd_kafka_conf_set(conf, key, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
                die(key, why);
}

static rd_kafka_t *new_client(rd_kafka_type_t type, const char *bootstrap, rd_kafka_conf_t *conf) {
        char why[512];
        set(conf, "bootstrap.servers", bootstrap);
        rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
        if (!rk)
                die("rd_kafka_new", why);
        return rk;
}

/* One record per request, sent at once. */
static rd_kafka_t *new_single_producer(const char *bootstrap) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "linger.ms", "0");
        set(conf, "batch.num.messages", "1");
        set(conf, "acks", "1");
        set(conf, "socket.nagle.disable", "true");
        set(conf, "queue.buffering.max.messages", "1000000");
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        return new_client(RD_KAFKA_PRODUCER, bootstrap, conf);
}

static rd_kafka_t *new_consumer(const char *bootstrap) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "socket.nagle.disable", "true");
        set(conf, "check.crcs", "false");
        set(conf, "fetch.message.max.bytes", "1048576");
        return new_client(RD_KAFKA_CONSUMER, bootstrap, conf);
}

static void produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, void *payload, size_t size) {
        while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0, NULL)) {
                if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                rd_kafka_poll(rk, 10);
        }
}

static rd_kafka_message_t *consume_one(rd_kafka_topic_t *topic) {
        for (;;) {
                rd_kafka_message_t *message = rd_kafka_consume(topic, 0, MESSAGE_TIMEOUT_MS);
                if (!message)
                        die("consume", "nothing arrived within 30 s");
                if (!message->err)
                        return message;
                if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
                        die("consume", rd_kafka_message_errstr(message));
                rd_kafka_message_destroy(message);
        }
}

static int by_value(const void *a, const void *b) {
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
        return x < y ? -1 : x > y;
}

static double percentile_us(const int64_t *sorted, int64_t count, double share) {
        int64_t rank = (int64_t)(share * count);
        return sorted[rank < count ? rank : count - 1] / 1000.0;
}

static void print_latencies(int64_t *latencies_ns, int64_t count) {
        qsort(latencies_ns, count, sizeof(*latencies_ns), by_value);
        printf("{\"count\": %" PRId64 ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
               "\"max_us\": %.1f, \"failed\": %" PRId64 "}\n",
               count, percentile_us(latencies_ns, count, 0.50), percentile_us(latencies_ns, count, 0.99),
               percentile_us(latencies_ns, count, 0.999), latencies_ns[count - 1] / 1000.0, failed);
}

static void run_trips(const char *bootstrap, const char *name, int64_t count, size_t size) {
        rd_kafka_t *producer = new_single_producer(bootstrap), *consumer = new_consumer(bootstrap);
        rd_kafka_topic_t *to = rd_kafka_topic_new(producer, name, NULL);
        rd_kafka_topic_t *from = rd_kafka_topic_new(consumer, name, NULL);
        int64_t *latencies_ns = calloc(count, sizeof(*latencies_ns));
        char *payload = calloc(1, size);

        if (rd_kafka_consume_start(from, 0, RD_KAFKA_OFFSET_BEGINNING))
                die("consume_start", rd_kafka_err2str(rd_kafka_last_error()));
        for (int64_t i = -WARM_UP_TRIPS; i < count; i++) {
                int64_t start_ns = now_ns();
                produce(producer, to, 0, payload, size);
                if (rd_kafka_flush(producer, MESSAGE_TIMEOUT_MS))
                        die("flush", "no answer within 30 s");
                rd_kafka_message_destroy(consume_one(from));
                if (i >= 0)
                        latencies_ns[i] = now_ns() - start_ns;
        }
        print_latencies(latencies_ns, count);
}

struct schedule {
        rd_kafka_t *producer;
        rd_kafka_topic_t *topic;
        int64_t count, interval_ns, start_ns;
        size_t size;
};

/* Sends record i when it is due, or at once if that time has passed; the record carries its due time. */
static void *send_on_schedule(void *argument) {
        struct schedule *plan = argument;
        char *payload = calloc(1, plan->size);
        prctl(PR_SET_TIMERSLACK, 1);
        for (int64_t i = 0; i < plan->count; i++) {
                int64_t due_ns = plan->start_ns + i * plan->interval_ns;
                if (now_ns() < due_ns)
                        sleep_until(due_ns);
                memcpy(payload, &due_ns, sizeof(due_ns));
                produce(plan->producer, plan->topic, 0, payload, plan->size);
                rd_kafka_poll(plan->producer, 0);
        }
        rd_kafka_flush(plan->producer, MESSAGE_TIMEOUT_MS);
        free(payload);
        return NULL;
}

/* Sends by schedule and consumes at the same time; latencies from the due times, in order of arrival. */
static int64_t *run_schedule(const char *bootstrap, const char *name, int64_t count, int64_t interval_ns,
                             size_t size) {
        rd_kafka_t *producer = new_single_producer(bootstrap), *consumer = new_consumer(bootstrap);
        rd_kafka_topic_t *to = rd_kafka_topic_new(producer, name, NULL);
        rd_kafka_topic_t *from = rd_kafka_topic_new(consumer, name, NULL);
        int64_t *latencies_ns = calloc(count, sizeof(*latencies_ns));
        char *payload = calloc(1, size);
        pthread_t sender;

        if (rd_kafka_consume_start(from, 0, RD_KAFKA_OFFSET_BEGINNING))
                die("consume_start", rd_kafka_err2str(rd_kafka_last_error()));
        /* One record first, so that both sides are connected when the schedule starts. */
        produce(producer, to, 0, payload, size);
        rd_kafka_flush(producer, MESSAGE_TIMEOUT_MS);
        rd_kafka_message_destroy(consume_one(from));

        struct schedule plan = {producer, to, count, interval_ns, now_ns(), size};
        pthread_create(&sender, NULL, send_on_schedule, &plan);
        for (int64_t i = 0; i < count; i++) {
                int64_t due_ns;
                rd_kafka_message_t *message = consume_one(from);
                memcpy(&due_ns, message->payload, sizeof(due_ns));
                latencies_ns[i] = now_ns() - due_ns;
                rd_kafka_message_destroy(message);
        }
        pthread_join(sender, NULL);
        return latencies_ns;
}

static void run_rate(const char *bootstrap, const char *name, int64_t rate, int64_t seconds, size_t size) {
        int64_t warm_up = rate * WARM_UP_SECONDS, count = rate * seconds + warm_up;
        int64_t *latencies_ns = run_schedule(bootstrap, name, count, 1000000000LL / rate, size);
        print_latencies(latencies_ns + warm_up, count - warm_up);
}

/* With an interval of nothing all are due at the start: the last latency is the time that all took. */
static void run_peak(const char *bootstrap, const char *name, int64_t count, size_t size) {
        int64_t *latencies_ns = run_schedule(bootstrap, name, count, 0, size);
        printf("{\"per_second\": %.0f}\n", count / (latencies_ns[count - 1] / 1e9));
}

/* Words of four to eleven letters, drawn from a fixed small vocabulary: lz4 halves it, about as log lines. */
static char *make_text(void) {
        static char words[512][12];
        uint64_t state = 88172645463325252ULL;
        char *text = malloc(TEXT_SIZE), *at = text;

#define NEXT() (state ^= state << 13, state ^= state >> 7, state ^= state << 17, state)
        for (int w = 0; w < 512; w++)
                for (int length = 4 + NEXT() % 8, i = 0; i < length; i++)
                        words[w][i] = 'a' + NEXT() % 26;
        while (at < text + TEXT_SIZE - 16) {
                at = stpcpy(at, words[NEXT() % 512]);
                *at++ = ' ';
        }
        memset(at, ' ', text + TEXT_SIZE - at);
        return text;
#undef NEXT
}

static void run_produce(const char *bootstrap, const char *name, int partitions, int64_t count, size_t size,
                        int settings, char **setting) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "queue.buffering.max.messages", "1000000");
        set(conf, "queue.buffering.max.kbytes", "1000000");
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        for (int i = 0; i < settings; i++) {
                char *equals = strchr(setting[i], '=');
                if (!equals)
                        die(setting[i], "expected KEY=VALUE");
                *equals = '\0';
                set(conf, setting[i], equals + 1);
        }
        rd_kafka_t *rk = new_client(RD_KAFKA_PRODUCER, bootstrap, conf);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        char *text = make_text();
        int64_t start_ns = now_ns();

        for (int64_t i = 0; i < count; i++) {
                produce(rk, topic, (int32_t)(i % partitions), text + i * 7919 % (TEXT_SIZE - size), size);
                if (i % 1000 == 0)
                        rd_kafka_poll(rk, 0);
        }
        rd_kafka_flush(rk, 10 * MESSAGE_TIMEOUT_MS);
        printf("{\"records\": %" PRId64 ", \"bytes\": %" PRId64 ", \"failed\": %" PRId64
               ", \"start_ns\": %" PRId64 ", \"end_ns\": %" PRId64 "}\n",
               delivered, delivered * (int64_t)size, failed, start_ns, now_ns());
}

static void run_consume(const char *bootstrap, const char *name, int first, int partitions, int64_t count) {
        rd_kafka_t *rk = new_consumer(bootstrap);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_message_t *messages[1000];
        int64_t records = 0, bytes = 0, start_ns = 0, idle_since_ns = now_ns();

        for (int p = first; p < first + partitions; p++)
                if (rd_kafka_consume_start_queue(topic, p, RD_KAFKA_OFFSET_BEGINNING, queue))
                        die("consume_start", rd_kafka_err2str(rd_kafka_last_error()));
        while (records < count) {
                ssize_t got = rd_kafka_consume_batch_queue(queue, 1000, messages, 1000);
                if (got > 0)
                        idle_since_ns = now_ns();
                else if (now_ns() - idle_since_ns > MESSAGE_TIMEOUT_MS * 1000000LL)
                        die("consume", "nothing arrived within 30 s");
                for (ssize_t i = 0; i < got; i++) {
                        if (messages[i]->err && messages[i]->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
                                die("consume", rd_kafka_message_errstr(messages[i]));
                        if (!messages[i]->err) {
                                start_ns = start_ns ? start_ns : now_ns();
                                records++;
                                bytes += messages[i]->len;
                        }
                        rd_kafka_message_destroy(messages[i]);
                }
        }
        printf("{\"records\": %" PRId64 ", \"bytes\": %" PRId64 ", \"failed\": 0, \"start_ns\": %" PRId64
               ", \"end_ns\": %" PRId64 "}\n",
               records, bytes, start_ns, now_ns());
}

int main(int argc, char **argv) {
        const char *mode = argc > 5 ? argv[1] : "";
        if (!strcmp(mode, "trips") && argc == 6)
                run_trips(argv[2], argv[3], atoll(argv[4]), atoi(argv[5]));
        else if (!strcmp(mode, "rate") && argc == 7)
                run_rate(argv[2], argv[3], atoll(argv[4]), atoll(argv[5]), atoi(argv[6]));
        else if (!strcmp(mode, "peak") && argc == 6)
                run_peak(argv[2], argv[3], atoll(argv[4]), atoi(argv[5]));
        else if (!strcmp(mode, "produce") && argc >= 7)
                run_produce(argv[2], argv[3], atoi(argv[4]), atoll(argv[5]), atoi(argv[6]), argc - 7, argv + 7);
        else if (!strcmp(mode, "consume") && argc == 7)
                run_consume(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoll(argv[6]));
        else
                die("usage", "see the comment at the top of bench_client.c");
        fflush(stdout);
        _Exit(failed ? 1 : 0); /* tearing librdkafka down takes up to a second and measures nothing */
}
