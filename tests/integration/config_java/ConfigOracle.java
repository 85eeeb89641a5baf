import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

import kafka.cluster.EndPoint;
import kafka.server.ConfigHelper;
import kafka.server.DynamicBrokerConfig$;
import kafka.server.KafkaConfig;
import kafka.server.MetadataCache;
import kafka.server.metadata.ConfigRepository;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.message.DescribeConfigsRequestData.DescribeConfigsResource;
import org.apache.kafka.common.message.DescribeConfigsResponseData.DescribeConfigsResourceResult;
import org.apache.kafka.common.message.DescribeConfigsResponseData.DescribeConfigsResult;
import org.apache.kafka.common.message.DescribeConfigsResponseData.DescribeConfigsSynonym;
import org.apache.kafka.storage.internals.log.LogConfig;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Answers questions about configuration with the code of a real Apache Kafka, one line in, one line out.
 *
 * A line is a list of fields separated by tabs; a field that may hold anything is the base64 of its UTF-8,
 * and "~" stands for null. A map is one such field with NUL between names and values. The first field of an
 * answer is "ok" or "no"; a "no" carries the exception's text for whoever reads a failing test.
 */
public class ConfigOracle {
    private static final String TOPIC = "oracle-topic";

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String answer;
            try {
                answer = "ok" + answer(line.split("\t", -1));
            } catch (Throwable e) {
                answer = "no\t" + pack(e.toString());
            }
            out.print(answer + "\n");
        }
        out.flush();
    }

    private static String answer(String[] question) throws Exception {
        switch (question[0]) {
            case "keys": return keys(question[1]);
            case "value": return value(question[1], question[2], unpack(question[3]));
            case "config": return config(unpackMap(question[1]));
            case "topic": return topic(unpackMap(question[1]), unpackMap(question[2]));
            case "properties": return properties(Base64.getDecoder().decode(question[1]));
            case "describe": return describe(unpackMap(question[1]), unpackMap(question[2]));
            case "hostname": return "\t" + pack(InetAddress.getLocalHost().getCanonicalHostName());
            default: throw new IllegalArgumentException(question[0]);
        }
    }

    private static ConfigDef definition(String scope) {
        return scope.equals("broker") ? KafkaConfig.configDef() : LogConfig.configDefCopy();
    }

    /** Every key: name, type, default, importance, internal, update mode. */
    private static String keys(String scope) {
        Map<String, String> modes = DynamicBrokerConfig$.MODULE$.dynamicConfigUpdateModes();
        StringBuilder answer = new StringBuilder();
        for (ConfigDef.ConfigKey key : new TreeMap<>(definition(scope).configKeys()).values()) {
            answer.append('\t').append(String.join(" ",
                key.name, key.type.toString(), pack(ConfigDef.convertToString(key.defaultValue, key.type)),
                key.importance.toString(), String.valueOf(key.internalConfig),
                scope.equals("broker") ? modes.getOrDefault(key.name, "read-only") : "topic"));
        }
        return answer.toString();
    }

    /** One value for one key by itself: type and validator only. */
    private static String value(String scope, String name, String text) {
        ConfigDef.ConfigKey key = definition(scope).configKeys().get(name);
        Object parsed = new ConfigDef().define(key).parse(Collections.singletonMap(name, text)).get(name);
        String shown = parsed instanceof org.apache.kafka.common.config.types.Password
            ? ((org.apache.kafka.common.config.types.Password) parsed).value()
            : ConfigDef.convertToString(parsed, key.type);
        return "\t" + pack(shown);
    }

    /** A whole server.properties: log dirs, listeners, advertised listeners, and the topic defaults. */
    private static String config(Map<String, String> properties) {
        KafkaConfig config = KafkaConfig.apply(properties, false);
        LogConfig log = new LogConfig(config.extractLogConfigMap());
        LogConfig.validateBrokerLogConfigValues(log.values(), false);
        return "\t" + pack(String.join("\0", CollectionConverters.asJava(config.logDirs())))
            + "\t" + pack(endPoints(config.listeners()))
            + "\t" + pack(endPoints(config.effectiveAdvertisedBrokerListeners()))
            + "\t" + pack(config.interBrokerListenerName().value())
            + "\t" + pack(values(log));
    }

    private static String endPoints(scala.collection.Seq<EndPoint> points) {
        List<String> shown = new ArrayList<>();
        for (EndPoint point : CollectionConverters.asJava(points)) {
            shown.add(point.listenerName().value() + " " + point.securityProtocol().name + " "
                + (point.host() == null ? "" : point.host()) + " " + point.port());
        }
        return String.join("\0", shown);
    }

    private static String values(LogConfig log) {
        List<String> shown = new ArrayList<>();
        for (Map.Entry<String, ConfigDef.ConfigKey> entry : new TreeMap<>(LogConfig.configKeys()).entrySet()) {
            shown.add(entry.getKey());
            shown.add(ConfigDef.convertToString(log.values().get(entry.getKey()), entry.getValue().type));
        }
        shown.add("effective before");
        shown.add(String.valueOf(log.messageTimestampBeforeMaxMs));
        shown.add("effective after");
        shown.add(String.valueOf(log.messageTimestampAfterMaxMs));
        return String.join("\0", shown);
    }

    /** A topic's overrides over a broker's configuration, as CreateTopics checks them in ZooKeeper mode. */
    private static String topic(Map<String, String> properties, Map<String, String> overrides) {
        KafkaConfig config = KafkaConfig.apply(properties, false);
        Properties props = new Properties();
        props.putAll(overrides);
        LogConfig.validate(Collections.emptyMap(), props, config.extractLogConfigMap(), false, true);
        return "\t" + pack(values(LogConfig.fromProps(config.extractLogConfigMap(), props)));
    }

    private static String properties(byte[] bytes) throws Exception {
        Properties props = new Properties();
        props.load(new ByteArrayInputStream(bytes));
        StringBuilder answer = new StringBuilder();
        for (Map.Entry<Object, Object> entry : new TreeMap<>(props).entrySet()) {
            answer.append('\t').append(units((String) entry.getKey())).append(' ').append(units((String) entry.getValue()));
        }
        return answer.toString();
    }

    /** UTF-16 units in hexadecimal: a lone surrogate has no UTF-8. */
    private static String units(String text) {
        StringBuilder answer = new StringBuilder("x");
        for (char unit : text.toCharArray()) {
            answer.append(String.format("%04x", (int) unit));
        }
        return answer.toString();
    }

    private static String describe(Map<String, String> properties, Map<String, String> overrides) {
        KafkaConfig config = KafkaConfig.apply(properties, false);
        Properties props = new Properties();
        props.putAll(overrides);
        ClassLoader loader = ConfigOracle.class.getClassLoader();
        MetadataCache cache = (MetadataCache) Proxy.newProxyInstance(
            loader, new Class<?>[] {MetadataCache.class}, (proxy, method, arguments) -> true);
        ConfigRepository repository = (ConfigRepository) Proxy.newProxyInstance(
            loader, new Class<?>[] {ConfigRepository.class}, (proxy, method, arguments) -> props);
        List<DescribeConfigsResource> wanted = new ArrayList<>();
        wanted.add(new DescribeConfigsResource().setResourceType(ConfigResource.Type.BROKER.id())
            .setResourceName(String.valueOf(config.brokerId())));
        wanted.add(new DescribeConfigsResource().setResourceType(ConfigResource.Type.TOPIC.id()).setResourceName(TOPIC));
        StringBuilder answer = new StringBuilder();
        for (DescribeConfigsResult result : CollectionConverters.asJava(new ConfigHelper(cache, config, repository)
                .describeConfigs(CollectionConverters.asScala(wanted).toList(), true, false))) {
            if (result.errorCode() != 0) {
                throw new IllegalStateException(result.errorMessage());
            }
            answer.append('\t').append(entries(result.configs()));
        }
        return answer.toString();
    }

    private static String entries(List<DescribeConfigsResourceResult> entries) {
        Map<String, String> shown = new TreeMap<>();
        for (DescribeConfigsResourceResult entry : entries) {
            StringBuilder text = new StringBuilder(pack(entry.value())).append(' ').append(entry.configSource())
                .append(' ').append(entry.readOnly()).append(' ').append(entry.isSensitive())
                .append(' ').append(entry.configType());
            for (DescribeConfigsSynonym synonym : entry.synonyms()) {
                text.append(' ').append(synonym.name()).append('=').append(pack(synonym.value()))
                    .append('=').append(synonym.source());
            }
            shown.put(entry.name(), text.toString());
        }
        Map<String, String> flat = new HashMap<>(shown);
        return packMap(flat);
    }

    private static String pack(String text) {
        return text == null ? "~" : Base64.getUrlEncoder().withoutPadding()
            .encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String packMap(Map<String, String> map) {
        List<String> flat = new ArrayList<>();
        map.forEach((name, value) -> {
            flat.add(name);
            flat.add(value);
        });
        return pack(String.join("\0", flat));
    }

    private static String unpack(String field) {
        return field.equals("~") ? null
            : new String(Base64.getUrlDecoder().decode(field), StandardCharsets.UTF_8);
    }

    private static Map<String, String> unpackMap(String field) {
        Map<String, String> map = new HashMap<>();
        String text = unpack(field);
        if (text == null || text.isEmpty()) {
            return map;
        }
        String[] flat = text.split("\0", -1);
        for (int i = 0; i < flat.length; i += 2) {
            map.put(flat[i], flat[i + 1]);
        }
        return map;
    }
}
