package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** Deletion on request, on a broker with small files whose every file counts as old. It has the broker for itself. */
final class RetentionCases {
    private static final int MESSAGES = 120;
    private static final int BODY_BYTES = 4000;

    private RetentionCases() {
    }

    static void retention(Env env, Map<String, Object> facts) throws Exception {
        String quiet = env.name("quiet");
        String busy = env.name("busy");
        MessageQueue quietQueue = new MessageQueue(quiet, "broker-a", 0);
        MessageQueue busyQueue = new MessageQueue(busy, "broker-a", 0);
        env.createTopic(quiet, 1);
        env.createTopic(busy, 1);
        env.send(quiet, "quiet", 5);
        SendResult first = null;
        for (int i = 0; i < MESSAGES; i++) {
            SendResult sent = env.producer.send(new Message(busy, "tag", "key-" + i, body(i)), busyQueue);
            equal("send status", SendStatus.SEND_OK, sent.getSendStatus());
            first = first == null ? sent : first;
        }
        String group = env.name("late");
        mqadmin(env, "updateSubGroup", "-g", group);
        env.admin.updateConsumeOffset(env.brokerAddr(), group, busyQueue, 3);
        String id = first.getOffsetMsgId();
        equal("first message", 0L, env.reader.viewMessage(busy, id).getQueueOffset());
        facts.put("before", bounds(env, busyQueue, quietQueue));

        facts.put("deleteExpiredCommitLog", mqadmin(env, "deleteExpiredCommitLog"));
        // All but the last file goes, which is a small part of everything, ten files at a time.
        await("deletion", () -> env.reader.minOffset(busyQueue) > MESSAGES - 20
            && env.reader.minOffset(quietQueue) == 5);
        long min = env.reader.minOffset(busyQueue);
        facts.put("after", bounds(env, busyQueue, quietQueue));
        Map<String, String> status = env.admin.fetchBrokerRuntimeStats(env.brokerAddr()).getTable();
        facts.put("log begins at", status.get("commitLogMinOffset"));
        check(Long.parseLong(status.get("commitLogMinOffset")) < Long.parseLong(status.get("commitLogMaxOffset")),
            "a file is left");

        for (long offset : new long[] {0, min - 1, min, MESSAGES, MESSAGES + 7}) {
            facts.put("pull at " + offset, pull(env, busyQueue, offset));
        }
        for (long offset : new long[] {0, 4, 5, 9}) {
            facts.put("quiet pull at " + offset, pull(env, quietQueue, offset));
        }
        facts.put("by time", env.reader.searchOffset(busyQueue, 0));
        facts.put("by id", refusal(() -> env.reader.viewMessage(busy, id)));
        facts.put("by key", refusal(() -> {
            QueryResult found = env.reader.queryMessage(busy, "key-1", 10, 0, Long.MAX_VALUE);
            return found.getMessageList().size();
        }));

        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("late");
        consumer.subscribe(busy, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        String[] left = new String[(int) (MESSAGES - min)];
        for (int i = 0; i < left.length; i++) {
            left[i] = new String(body((int) min + i), StandardCharsets.UTF_8);
        }
        received.awaitExactly("what is left", Arrays.asList(left));
        env.shutdown(consumer, busy, MESSAGES);

        // The original may take longer over it than its own tool waits.
        mqadmin(env, "cleanExpiredCQ");
        await("clean queues", () -> env.reader.maxOffset(quietQueue) == 0);
        facts.put("cleaned", bounds(env, busyQueue, quietQueue));
        for (long offset : new long[] {0, 5}) {
            facts.put("cleaned pull at " + offset, pull(env, quietQueue, offset));
        }
        facts.put("cleanUnusedTopic", mqadmin(env, "cleanUnusedTopic"));
        facts.put("kept", bounds(env, busyQueue, quietQueue));
        SendResult again = env.producer.send(Env.message(quiet, "tag", "again"), quietQueue);
        facts.put("numbered from", again.getQueueOffset());
        await("the new message", () -> env.reader.pull(quietQueue, "*", again.getQueueOffset(), 32).getMsgFoundList()
            .size() == 1);
        facts.put("in the end", bounds(env, busyQueue, quietQueue));
    }

    private static byte[] body(int number) {
        byte[] body = new byte[BODY_BYTES];
        Arrays.fill(body, (byte) ('a' + number % 26));
        System.arraycopy(String.format("%06d", number).getBytes(StandardCharsets.UTF_8), 0, body, 0, 6);
        return body;
    }

    private static Map<String, List<Long>> bounds(Env env, MessageQueue... queues) throws Exception {
        Map<String, List<Long>> result = new LinkedHashMap<>();
        for (MessageQueue queue : queues) {
            result.put(queue.getTopic(), List.of(env.reader.minOffset(queue), env.reader.maxOffset(queue)));
        }
        return result;
    }

    private static List<Object> pull(Env env, MessageQueue queue, long offset) throws Exception {
        PullResult pulled = env.reader.pull(queue, "*", offset, 1);
        return List.of(pulled.getPullStatus().toString(), pulled.getNextBeginOffset(), pulled.getMinOffset(),
            pulled.getMaxOffset());
    }

    private interface Call {
        Object run() throws Exception;
    }

    private static Object refusal(Call call) throws Exception {
        try {
            return call.run();
        } catch (MQClientException refused) {
            return refused.getResponseCode();
        } catch (MQBrokerException refused) {
            return refused.getResponseCode();
        }
    }

    private static String mqadmin(Env env, String command, String... more) throws Exception {
        List<String> words = new ArrayList<>(List.of(command, "-b", env.brokerAddr(), "-n", env.namesrv));
        words.addAll(List.of(more));
        PrintStream console = System.out;
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
        try {
            MQAdminStartup.main0(words.toArray(new String[0]), null);
        } finally {
            System.setOut(console);
        }
        return output.toString(StandardCharsets.UTF_8).trim();
    }
}
