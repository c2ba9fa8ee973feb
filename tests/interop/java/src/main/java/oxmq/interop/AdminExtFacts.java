package oxmq.interop;

import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;

/**
 * What calls of DefaultMQAdminExt give, as facts: every field of the result or the refusal, without what depends on time,
 * machine and order.
 */
final class AdminExtFacts {
    /** Versions, rates, and places in a log that other cases write to as well. */
    private static final Set<String> LEFT_OUT = Set.of("dataVersion", "subVersion", "jstack", "consumeTps",
        "commitLogOffset", "physicOffset", "random");

    private final Map<String, Object> facts;
    private final String namesrv;
    private final String broker;

    AdminExtFacts(Map<String, Object> facts, String namesrv, String broker) {
        this.facts = facts;
        this.namesrv = namesrv;
        this.broker = broker;
    }

    interface Action {
        void run() throws Exception;
    }

    void did(String name, Action action) {
        got(name, () -> {
            action.run();
            return "done";
        });
    }

    /** Returns the result, or nothing when there is none. */
    <T> T got(String name, Callable<T> call) {
        try {
            T result = call.call();
            put(name, reduced(result));
            return result;
        } catch (Exception refused) {
            put(name, refusal(refused));
            return null;
        }
    }

    /** For refusals that the original words as an accident of its own. */
    void code(String name, Callable<?> call) {
        try {
            put(name, reduced(call.call()));
        } catch (Exception refused) {
            put(name, refusal(refused).replaceFirst(":.*", ""));
        }
    }

    private void put(String name, Object fact) {
        if (facts.put(name, fact) != null) {
            throw new IllegalStateException("two facts are called " + name);
        }
    }

    private String refusal(Throwable refused) {
        String code = "";
        String text = String.valueOf(refused.getMessage());
        if (refused instanceof MQClientException) {
            code = " " + ((MQClientException) refused).getResponseCode();
            text = String.valueOf(((MQClientException) refused).getErrorMessage());
        } else if (refused instanceof MQBrokerException) {
            code = " " + ((MQBrokerException) refused).getResponseCode();
            text = String.valueOf(((MQBrokerException) refused).getErrorMessage());
        }
        return refused.getClass().getSimpleName() + code + ": " + reduced(text.lines().findFirst().orElse(""));
    }

    Object reduced(Object value) {
        if (value == null || value instanceof Boolean) {
            return value;
        }
        if (value instanceof Double || value instanceof Float) {
            return "RATE";
        }
        if (value instanceof Number) {
            long number = ((Number) value).longValue();
            return number > 1_000_000_000_000L && number < 10_000_000_000_000L ? "MILLIS" : (Object) number;
        }
        if (value instanceof byte[]) {
            return new String((byte[]) value, java.nio.charset.StandardCharsets.UTF_8);
        }
        if (value instanceof Map) {
            Map<String, Object> result = new TreeMap<>();
            ((Map<?, ?>) value).forEach((key, item) -> {
                String text = key instanceof String ? (String) key : String.valueOf(reduced(key));
                if (!LEFT_OUT.contains(text)) {
                    result.put(String.valueOf(reduced(text)), reduced(item));
                }
            });
            return result;
        }
        if (value instanceof Collection) {
            List<Object> result = new ArrayList<>();
            ((Collection<?>) value).forEach(item -> result.add(reduced(item)));
            Collections.sort(result, Comparator.comparing(String::valueOf));
            return result;
        }
        if (value.getClass().getName().startsWith("org.apache.rocketmq.") && !(value instanceof Enum)) {
            return fields(value);
        }
        return String.valueOf(value).replace(broker, "BROKER").replace(namesrv, "NAMESRV")
            .replaceAll("/?127\\.0\\.0\\.1(:[0-9]+)?", "ADDRESS")
            .replaceAll("[0-9.:a-fx]+@[0-9]+#[0-9]+", "CLIENT")
            .replaceAll("\\b[0-9A-F]{32,56}\\b", "ID")
            .replaceAll("\\b[0-9]{13}\\b", "MILLIS")
            .replaceAll("_/.*", "_PATH");
    }

    private Map<String, Object> fields(Object bean) {
        Map<String, Object> result = new TreeMap<>();
        for (Class<?> type = bean.getClass(); type != Object.class; type = type.getSuperclass()) {
            for (Field field : type.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !LEFT_OUT.contains(field.getName())) {
                    field.setAccessible(true);
                    try {
                        result.put(field.getName(), reduced(field.get(bean)));
                    } catch (IllegalAccessException hidden) {
                        throw new IllegalStateException(hidden);
                    }
                }
            }
        }
        return result;
    }
}
