// Writes segment_recovery.txt: a segment, and the files that Kafka's own recovery makes of it, as "name hex".
// Not run by the tests, which read the checked-in output. To make it again, with the jars of Kafka 3.9.1 in
// LIBS:  javac -cp 'LIBS/*' SegmentRecoveryGolden.java && java -cp 'LIBS/*:.' SegmentRecoveryGolden
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.util.KafkaScheduler;
import org.apache.kafka.storage.internals.checkpoint.LeaderEpochCheckpointFile;
import org.apache.kafka.storage.internals.epoch.LeaderEpochFileCache;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.LogSegment;
import org.apache.kafka.storage.internals.log.ProducerStateManager;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;

public class SegmentRecoveryGolden {
    static final long BASE = 1_000_000_000_000L;
    static final long TIME = 1_700_000_000_000L;
    static long offset = BASE;

    public static void main(String[] args) throws Exception {
        File dir = Files.createTempDirectory("golden").toFile();
        File log = new File(dir, String.format("%020d.log", BASE));
        ByteBuffer all = ByteBuffer.allocate(1 << 20);
        Random random = new Random(9);
        CompressionType[] types = CompressionType.values();
        for (int i = 0; i < 60; i++) {
            int epoch = i / 20 * 2;
            Compression compression = Compression.of(types[i % 5]).build();
            SimpleRecord[] records = new SimpleRecord[1 + i % 3];
            for (int j = 0; j < records.length; j++)
                records[j] = new SimpleRecord(TIME + random.nextInt(60) * 10 + i * 5, null, new byte[40 + i]);
            long id = 70 + i % 2;
            MemoryRecords batch;
            if (i % 4 == 3)
                batch = MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, offset, compression,
                    TimestampType.CREATE_TIME, -1L, (short) -1, -1, epoch, false, records);
            else
                batch = MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, offset, compression,
                    TimestampType.CREATE_TIME, id, (short) 0, i * 3, epoch, true, records);
            put(all, batch, records.length);
            if (i % 10 == 9 && i < 50) {
                put(all, marker(70, i % 20 == 9 ? ControlRecordType.ABORT : ControlRecordType.COMMIT, epoch), 1);
                put(all, marker(71, i % 30 == 9 ? ControlRecordType.ABORT : ControlRecordType.COMMIT, epoch), 1);
            }
            if (i % 15 == 7) offset += 5;
        }
        all.put(new byte[] {0, 0, 0, -24, -44, -91});
        all.flip();
        byte[] bytes = new byte[all.remaining()];
        all.get(bytes);
        Files.write(log.toPath(), bytes);
        print("log", bytes);

        Properties properties = new Properties();
        properties.put("index.interval.bytes", "256");
        TopicPartition partition = new TopicPartition("golden", 0);
        ProducerStateManager producers = new ProducerStateManager(partition, dir, 60_000,
            new ProducerStateManagerConfig(86_400_000, false), Time.SYSTEM);
        LeaderEpochFileCache epochs = new LeaderEpochFileCache(partition, new LeaderEpochCheckpointFile(
            LeaderEpochCheckpointFile.newFile(dir), new LogDirFailureChannel(1)), new KafkaScheduler(1));
        LogSegment segment = LogSegment.open(dir, BASE, new LogConfig(properties), Time.SYSTEM, true, 0, false, "");
        int truncated = segment.recover(producers, Optional.of(epochs));
        segment.close();
        producers.takeSnapshot();
        System.out.println("truncated " + truncated);
        for (String suffix : new String[] {"index", "timeindex", "txnindex"})
            print(suffix, Files.readAllBytes(new File(dir, String.format("%020d.%s", BASE, suffix)).toPath()));
        print("snapshot", Files.readAllBytes(new File(dir, String.format("%020d.snapshot", offset)).toPath()));
        print("leader-epoch-checkpoint", Files.readAllBytes(new File(dir, "leader-epoch-checkpoint").toPath()));
        System.out.println("next-offset " + offset);
    }

    static MemoryRecords marker(long id, ControlRecordType type, int epoch) {
        return MemoryRecords.withEndTransactionMarker(offset, TIME, epoch, id, (short) 0,
            new EndTransactionMarker(type, 5));
    }

    static void put(ByteBuffer all, MemoryRecords batch, int count) {
        all.put(batch.buffer().duplicate());
        offset += count;
    }

    static void print(String name, byte[] data) {
        StringBuilder hex = new StringBuilder(name).append(' ');
        for (byte value : data) hex.append(String.format("%02x", value));
        System.out.println(hex);
    }
}
