// What Kafka's own generated classes make of our messages. Reads one question per line from standard
// input and answers each with one line:
//
//   versions NAME                 ok LOWEST HIGHEST
//   errors                        ok CODE,NAME,RETRIABLE,INVALIDATES-METADATA ...
//   apis                          ok KEY,NAME,LOWEST,HIGHEST,ZK-BROKER,HEADERS ...   headers: one pair of
//                                 digits (request, response) per version
//   encode NAME VERSION JSON-VERSION JSON   ok HEX       JSON -> object -> bytes
//   decode NAME VERSION HEX       ok HEX JSON            bytes -> object -> bytes and JSON
//
// and "error TEXT" for whatever went wrong. Fields are separated by single spaces; JSON comes last. The
// version in which JSON is read may differ from the one that is written: so an object can hold what the
// latter lacks.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.StringJoiner;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;

public class MessageOracle {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
    };
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final Map<String, MessageOracle> ORACLES = new HashMap<>();

    private final Class<?> messageClass;
    private final Method readJson;
    private final Method writeJson;

    private MessageOracle(Class<?> messageClass) throws ReflectiveOperationException {
        this.messageClass = messageClass;
        Class<?> converter = Class.forName(messageClass.getName() + "JsonConverter");
        this.readJson = converter.getMethod("read", JsonNode.class, short.class);
        this.writeJson = converter.getMethod("write", messageClass, short.class);
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(answer(line));
            out.flush();
        }
    }

    private static String answer(String line) {
        try {
            String[] words = line.split(" ", 5);
            if (words[0].equals("errors"))
                return "ok " + errors();
            if (words[0].equals("apis"))
                return "ok " + apis();
            MessageOracle oracle = find(words[1]);
            if (words[0].equals("versions"))
                return "ok " + oracle.versions();
            short version = Short.parseShort(words[2]);
            if (words[0].equals("encode"))
                return "ok " + oracle.encode(version, Short.parseShort(words[3]), words[4]);
            return "ok " + oracle.decode(version, words[3]);
        } catch (InvocationTargetException error) {
            return "error " + oneLine(error.getCause());
        } catch (Exception error) {
            return "error " + oneLine(error);
        }
    }

    private static String errors() {
        StringJoiner rows = new StringJoiner(" ");
        for (Errors error : Errors.values()) {
            Throwable exception = error.exception();
            rows.add(error.code() + "," + error.name() + "," + (exception instanceof RetriableException)
                + "," + (exception instanceof InvalidMetadataException));
        }
        return rows.toString();
    }

    private static String apis() {
        StringJoiner rows = new StringJoiner(" ");
        for (ApiKeys api : ApiKeys.values()) {
            StringBuilder headers = new StringBuilder();
            for (short version = api.oldestVersion(); version <= api.latestVersion(); version++)
                headers.append(api.requestHeaderVersion(version)).append(api.responseHeaderVersion(version));
            rows.add(api.id + "," + api.name + "," + api.oldestVersion() + "," + api.latestVersion() + ","
                + api.inScope(ApiMessageType.ListenerType.ZK_BROKER) + "," + headers);
        }
        return rows.toString();
    }

    private static String oneLine(Throwable error) {
        return error.toString().replace('\n', ' ');
    }

    /** Requests, responses and headers are called NAMEData; the rest are called NAME. */
    private static MessageOracle find(String name) throws ReflectiveOperationException {
        MessageOracle known = ORACLES.get(name);
        if (known != null)
            return known;
        for (String prefix : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    MessageOracle oracle = new MessageOracle(Class.forName(prefix + name + suffix));
                    ORACLES.put(name, oracle);
                    return oracle;
                } catch (ClassNotFoundException absent) {
                    continue;
                }
            }
        }
        throw new ClassNotFoundException(name);
    }

    private String versions() throws ReflectiveOperationException {
        Message message = (Message) messageClass.getConstructor().newInstance();
        return message.lowestSupportedVersion() + " " + message.highestSupportedVersion();
    }

    private String encode(short version, short jsonVersion, String json) throws Exception {
        Message message = (Message) readJson.invoke(null, MAPPER.readTree(json), jsonVersion);
        return hex(message, version);
    }

    private String decode(short version, String hex) throws Exception {
        ByteBuffer buffer = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
        Message message = (Message) messageClass.getConstructor().newInstance();
        message.read(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining())
            throw new IllegalStateException(buffer.remaining() + " bytes left over");
        return hex(message, version) + " " + MAPPER.writeValueAsString(writeJson.invoke(null, message, version));
    }

    private static String hex(Message message, short version) {
        ByteBuffer bytes = MessageUtil.toByteBuffer(message, version);
        byte[] copy = new byte[bytes.remaining()];
        bytes.get(copy);
        return HexFormat.of().formatHex(copy);
    }
}
