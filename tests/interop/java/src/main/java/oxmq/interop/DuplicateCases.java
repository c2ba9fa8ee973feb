package oxmq.interop;

import static oxmq.interop.Env.equal;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageQueue;

/** Sends that come twice, to a broker with {@code duplicateSendWindow}: the second is answered as the first. */
final class DuplicateCases {
    private DuplicateCases() {
    }

    static void twice(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("duplicates");
        env.createTopic(topic, 2);
        DefaultMQProducer producer = env.producer("duplicates");
        producer.start();
        // The object keeps its key, as it does when the client sends again by itself.
        Message message = Env.message(topic, "tag", "sync");
        SendResult first = producer.send(message);
        same(first, producer.send(message));
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            same(first, producer.send(message, queue));
        }
        CompletableFuture<SendResult> later = new CompletableFuture<>();
        producer.send(message, new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                later.complete(result);
            }

            @Override
            public void onException(Throwable failure) {
                later.completeExceptionally(failure);
            }
        });
        same(first, later.get(30, TimeUnit.SECONDS));
        producer.sendOneway(message);

        List<Message> batch = Arrays.asList(Env.message(topic, "tag", "batch-1"), Env.message(topic, "tag", "batch-2"));
        SendResult together = producer.send(batch);
        same(together, producer.send(batch));

        // Another object of the same text is another message; one with the same key is not.
        SendResult other = producer.send(Env.message(topic, "tag", "sync"));
        Env.check(!other.getOffsetMsgId().equals(first.getOffsetMsgId()), "another message is stored");
        Message copy = Env.message(topic, "tag", "copy");
        MessageAccessor.putProperty(copy, "UNIQ_KEY", first.getMsgId());
        same(first, producer.send(copy));
        Message delayed = Env.message(topic, "tag", "delayed");
        delayed.setDelayTimeLevel(1);
        SendResult waits = producer.send(delayed);
        equal("delayed", waits.getMsgId(), producer.send(delayed).getMsgId());
        facts.put("stored", env.readAll(topic, 5).stream().map(Env::body).sorted()
            .collect(java.util.stream.Collectors.toList()));
        producer.shutdown();
    }

    private static void same(SendResult first, SendResult again) {
        equal("status", first.getSendStatus(), again.getSendStatus());
        equal("id", first.getMsgId(), again.getMsgId());
        equal("offset id", first.getOffsetMsgId(), again.getOffsetMsgId());
        equal("queue", first.getMessageQueue(), again.getMessageQueue());
        equal("queue offset", first.getQueueOffset(), again.getQueueOffset());
    }
}
