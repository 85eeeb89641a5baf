import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * Writes and reads the records of tests/clients/dataset.py with the Java client on the class path.
 *
 * Compiled once against the oldest release, run with all: only the API that 0.11 has is used, and
 * poll, whose signature changed, is called by reflection.
 *
 * Arguments: bootstrap base-timestamp-ms count partitions job..., a job being
 * action,topic,codec,acks,idempotent[,key=value of the producer]... with action one of
 * write, read, both, times, large. Prints: acked TOPIC PARTITION COUNT DIGEST, read (the same),
 * time TOPIC PARTITION TIMESTAMP OFFSET, error TOPIC EXCEPTION.
 */
public final class RoundTrip {
    private static final long READ_TIMEOUT_MS = 120_000;
    private static final String BYTES = "org.apache.kafka.common.serialization.ByteArray";

    private final String bootstrap;
    private final long baseTimestampMs;
    private final int count;
    private final int partitions;

    private RoundTrip(String[] args) {
        bootstrap = args[0];
        baseTimestampMs = Long.parseLong(args[1]);
        count = Integer.parseInt(args[2]);
        partitions = Integer.parseInt(args[3]);
    }

    public static void main(String[] args) throws Exception {
        RoundTrip program = new RoundTrip(args);
        for (String job : Arrays.copyOfRange(args, 4, args.length)) {
            program.run(job.split(","));
        }
    }

    private void run(String[] job) throws Exception {
        String action = job[0];
        String topic = job[1];
        if (action.equals("write") || action.equals("both")) {
            write(topic, producerConfig(job));
        }
        if (action.equals("read") || action.equals("both")) {
            read(topic);
        }
        if (action.equals("times")) {
            lookUpTimes(topic);
        }
        if (action.equals("large")) {
            writeTooLarge(topic, producerConfig(job));
        }
    }

    private Properties producerConfig(String[] job) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("key.serializer", BYTES + "Serializer");
        config.put("value.serializer", BYTES + "Serializer");
        config.put("compression.type", job[2]);
        config.put("acks", job[3]);
        config.put("enable.idempotence", job[4]);
        config.put("linger.ms", "5");
        config.put("batch.size", "65536");
        for (int i = 5; i < job.length; i++) {
            String[] pair = job[i].split("=", 2);
            config.put(pair[0], pair[1]);
        }
        return config;
    }

    private ProducerRecord<byte[], byte[]> record(String topic, int index) {
        List<Header> headers = new ArrayList<>();
        if (index % 5 == 0) {
            headers.add(new RecordHeader("index", bytes(Integer.toString(index))));
            headers.add(new RecordHeader("null", (byte[]) null));
        }
        return new ProducerRecord<>(
            topic, index % partitions, baseTimestampMs + index, key(index), value(index), headers);
    }

    private static byte[] key(int index) {
        if (index % 7 == 3) {
            return null;
        }
        return bytes(index % 11 == 5 ? "" : "key-" + index);
    }

    private static byte[] value(int index) {
        if (index % 13 == 6) {
            return null;
        }
        long mixed = splitmix64(index);
        String hex = String.format("%016x", mixed);
        StringBuilder text = new StringBuilder().append(index).append(':');
        for (long i = 0; i <= Long.remainderUnsigned(mixed, 12); i++) {
            text.append(hex);
        }
        return bytes(text.toString());
    }

    private static long splitmix64(long index) {
        long mixed = (index + 1) * 0x9E3779B97F4A7C15L;
        mixed = (mixed ^ (mixed >>> 30)) * 0xBF58476D1CE4E5B9L;
        mixed = (mixed ^ (mixed >>> 27)) * 0x94D049BB133111EBL;
        return mixed ^ (mixed >>> 31);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private void write(String topic, Properties config) throws Exception {
        long[] offsets = new long[count];
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            for (int i = 0; i < count; i++) {
                int index = i;
                producer.send(record(topic, i), (metadata, error) -> {
                    if (error != null) {
                        failure.compareAndSet(null, error);
                    } else {
                        offsets[index] = metadata.offset();
                    }
                });
            }
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        for (int partition = 0; partition < partitions; partition++) {
            Digest digest = new Digest();
            for (int i = partition; i < count; i += partitions) {
                ProducerRecord<byte[], byte[]> sent = record(topic, i);
                digest.add(offsets[i], sent.timestamp(), sent.key(), sent.value(), sent.headers().toArray());
            }
            System.out.println("acked " + topic + " " + partition + " " + digest);
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("key.deserializer", BYTES + "Deserializer");
        config.put("value.deserializer", BYTES + "Deserializer");
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "none");
        return new KafkaConsumer<>(config);
    }

    private List<TopicPartition> allPartitions(String topic) {
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        return all;
    }

    private void read(String topic) throws Exception {
        Map<TopicPartition, Digest> digests = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            List<TopicPartition> all = allPartitions(topic);
            consumer.assign(all);
            for (TopicPartition each : all) {
                consumer.seek(each, 0);
                digests.put(each, new Digest());
            }
            long deadline = System.currentTimeMillis() + READ_TIMEOUT_MS;
            long left = awaitRecords(consumer, all, deadline);
            while (left > 0 && System.currentTimeMillis() < deadline) {
                for (ConsumerRecord<byte[], byte[]> got : poll(consumer)) {
                    Digest digest = digests.get(new TopicPartition(got.topic(), got.partition()));
                    digest.add(got.offset(), got.timestamp(), got.key(), got.value(), got.headers().toArray());
                    left--;
                }
            }
            for (TopicPartition each : all) {
                System.out.println("read " + topic + " " + each.partition() + " " + digests.get(each));
            }
        }
    }

    /** The records in the topic once all are there: with acks=0 nobody has said when that is. */
    private long awaitRecords(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> all, long deadline)
            throws InterruptedException {
        while (true) {
            long sum = 0;
            for (long end : consumer.endOffsets(all).values()) {
                sum += end;
            }
            if (sum >= count || System.currentTimeMillis() > deadline) {
                return sum;
            }
            Thread.sleep(50);
        }
    }

    @SuppressWarnings("unchecked")
    private static ConsumerRecords<byte[], byte[]> poll(KafkaConsumer<byte[], byte[]> consumer)
            throws ReflectiveOperationException {
        Object records;
        try {
            Object wait = java.time.Duration.ofMillis(200);
            records = KafkaConsumer.class.getMethod("poll", java.time.Duration.class).invoke(consumer, wait);
        } catch (NoSuchMethodException older) {
            records = KafkaConsumer.class.getMethod("poll", long.class).invoke(consumer, 200L);
        }
        return (ConsumerRecords<byte[], byte[]>) records;
    }

    private void lookUpTimes(String topic) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            int[] indexes = {-5, 0, 1, count / 3, count / 2, count - partitions, count - 1, count + 10};
            for (int index : indexes) {
                for (TopicPartition each : allPartitions(topic)) {
                    long timestamp = baseTimestampMs + index;
                    OffsetAndTimestamp found =
                        consumer.offsetsForTimes(Collections.singletonMap(each, timestamp)).get(each);
                    long offset = found == null ? -1 : found.offset();
                    System.out.println("time " + topic + " " + each.partition() + " " + timestamp + " " + offset);
                }
            }
        }
    }

    private void writeTooLarge(String topic, Properties config) throws InterruptedException {
        config.put("max.request.size", "4000000");
        config.put("buffer.memory", "8000000");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            producer.send(new ProducerRecord<>(topic, 0, null, new byte[2_000_000])).get();
            System.out.println("error " + topic + " none");
        } catch (ExecutionException error) {
            System.out.println("error " + topic + " " + error.getCause().getClass().getSimpleName());
        }
    }

    private static final class Digest {
        private final MessageDigest state;
        private ByteBuffer buffer = ByteBuffer.allocate(4096);
        private int count;

        Digest() {
            try {
                state = MessageDigest.getInstance("SHA-256");
            } catch (java.security.NoSuchAlgorithmException error) {
                throw new IllegalStateException(error);
            }
        }

        void add(long offset, long timestampMs, byte[] key, byte[] value, Header[] headers) {
            buffer.clear();
            buffer.putLong(offset).putLong(timestampMs);
            put(key);
            put(value);
            buffer.putInt(headers.length);
            for (Header header : headers) {
                put(bytes(header.key()));
                put(header.value());
            }
            state.update(buffer.array(), 0, buffer.position());
            count++;
        }

        private void put(byte[] data) {
            buffer.putInt(data == null ? -1 : data.length);
            if (data != null) {
                buffer.put(data);
            }
        }

        @Override
        public String toString() {
            StringBuilder hex = new StringBuilder();
            for (byte b : state.digest()) {
                hex.append(String.format("%02x", b));
            }
            return count + " " + hex;
        }
    }
}
