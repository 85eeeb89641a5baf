// Writes record_batches.txt: batches made by Kafka's own client library, one "name hex" per line.
// Not run by the tests, which read the checked-in output. To make it again, with kafka-clients 3.9.1 and its
// dependencies in LIBS:  javac -cp 'LIBS/*' RecordBatchGolden.java && java -cp 'LIBS/*:.' RecordBatchGolden
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.DefaultRecordBatch;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

public class RecordBatchGolden {
    static final long TIME = 1_700_000_000_000L;

    public static void main(String[] args) {
        for (CompressionType type : CompressionType.values()) {
            small("v2-" + type.name, RecordBatch.MAGIC_VALUE_V2, type);
            large("v2-large-" + type.name, type);
            if (type != CompressionType.ZSTD) {
                small("v1-" + type.name, RecordBatch.MAGIC_VALUE_V1, type);
                small("v0-" + type.name, RecordBatch.MAGIC_VALUE_V0, type);
            }
        }
        builder("v2-log-append-time", TimestampType.LOG_APPEND_TIME, false, -1L, (short) -1, -1);
        builder("v2-idempotent", TimestampType.CREATE_TIME, false, 4711L, (short) 3, 2147483646);
        builder("v2-transactional", TimestampType.CREATE_TIME, true, 4711L, (short) 3, 7);
        marker("v2-commit", ControlRecordType.COMMIT);
        marker("v2-abort", ControlRecordType.ABORT);
        ByteBuffer empty = ByteBuffer.allocate(RecordBatch.MAGIC_VALUE_V2 == 2 ? 61 : 0);
        DefaultRecordBatch.writeEmptyHeader(empty, RecordBatch.MAGIC_VALUE_V2, 4711L, (short) 3, 5, 100L, 104L, 9,
            TimestampType.CREATE_TIME, TIME, true, false);
        empty.flip();
        print("v2-emptied", empty);
        MemoryRecordsBuilder horizon = new MemoryRecordsBuilder(new ByteBufferOutputStream(512),
            RecordBatch.MAGIC_VALUE_V2, Compression.NONE, TimestampType.CREATE_TIME, 42L, -1L, -1L, (short) -1, -1,
            false, false, 9, 512, TIME + 86_400_000L);
        append(horizon, true);
        print("v2-delete-horizon", horizon.build().buffer());
    }

    static void append(MemoryRecordsBuilder builder, boolean headers) {
        Header[] none = new Header[0];
        Header[] some = {new RecordHeader("h1", bytes("x")), new RecordHeader("h2", null),
            new RecordHeader("h1", new byte[0])};
        builder.append(TIME, bytes("k1"), bytes("v1"), none);
        builder.append(TIME + 5, null, bytes("v2"), headers ? some : none);
        builder.append(TIME - 300, bytes(""), null, none);
    }

    static void small(String name, byte magic, CompressionType type) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), magic,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 42L);
        append(builder, magic == RecordBatch.MAGIC_VALUE_V2);
        print(name, builder.build().buffer());
    }

    static void large(String name, CompressionType type) {
        if (type == CompressionType.NONE) return;
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 42L);
        byte[] value = new byte[10_000];
        for (int i = 0; i < 20; i++) {
            java.util.Arrays.fill(value, (byte) ('a' + i));
            builder.append(TIME + i, null, value);
        }
        print(name, builder.build().buffer());
    }

    static void builder(String name, TimestampType timestampType, boolean transactional, long id, short epoch, int seq) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1024), RecordBatch.MAGIC_VALUE_V2,
            Compression.NONE, timestampType, 42L, TIME + 99, id, epoch, seq, transactional, false, 9, 1024);
        append(builder, true);
        print(name, builder.build().buffer());
    }

    static void marker(String name, ControlRecordType type) {
        print(name, MemoryRecords.withEndTransactionMarker(42L, TIME, 9, 4711L, (short) 3,
            new EndTransactionMarker(type, 12)).buffer());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void print(String name, ByteBuffer buffer) {
        StringBuilder hex = new StringBuilder(name).append(' ');
        for (ByteBuffer view = buffer.duplicate(); view.hasRemaining(); )
            hex.append(String.format("%02x", view.get()));
        System.out.println(hex);
    }
}
