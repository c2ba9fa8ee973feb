package oxmq.interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Collects what a consumer is given and acknowledges it. */
final class Received {
    private final List<MessageExt> messages = new ArrayList<>();

    MessageListenerConcurrently concurrently() {
        return (List<MessageExt> batch, ConsumeConcurrentlyContext context) -> {
            add(batch);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
    }

    MessageListenerOrderly orderly() {
        return (List<MessageExt> batch, ConsumeOrderlyContext context) -> {
            add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        };
    }

    synchronized void add(List<MessageExt> batch) {
        messages.addAll(batch);
    }

    synchronized List<MessageExt> messages() {
        return new ArrayList<>(messages);
    }

    int count() {
        return messages().size();
    }

    /** Bodies in the order of arrival. */
    List<String> bodies() {
        return messages().stream().map(Env::body).collect(Collectors.toList());
    }

    List<String> sortedBodies() {
        List<String> result = bodies();
        Collections.sort(result);
        return result;
    }

    List<String> bodiesOf(MessageQueue queue) {
        return messages().stream().filter(message -> message.getQueueId() == queue.getQueueId()).map(Env::body)
            .collect(Collectors.toList());
    }

    /** Waits until as many messages have come as expected, then wants exactly these, each once. */
    void awaitExactly(String what, List<String> expected) throws Exception {
        Env.await(what + " (" + expected.size() + " messages, " + this + ")", () -> count() >= expected.size());
        List<String> sorted = new ArrayList<>(expected);
        Collections.sort(sorted);
        Env.equal(what, sorted, sortedBodies());
    }
}
