package oxmq.interop;

import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Requests that are sent as messages, and their replies. */
final class RequestCases {
    private static final long TIMEOUT = 30_000;
    private static final String SILENCE = "silence";

    private RequestCases() {
    }

    static void requestReply(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("request-reply");
        env.createTopic(topic, 2);
        DefaultMQProducer asker = env.producer("askers");
        asker.start();
        BlockingQueue<SendResult> replies = new LinkedBlockingQueue<>();
        DefaultMQPushConsumer answerer = answerer(env, topic, replies);

        Message reply = asker.request(Env.message(topic, "tag", "sync"), TIMEOUT);
        equal("reply", "SYNC", text(reply));
        facts.put("reply", Arrays.asList(reply.getTopic(), reply.getFlag(), Env.propertyNames((MessageExt) reply),
            ((MessageExt) reply).getBornHostString(), ((MessageExt) reply).getQueueOffset()));
        SendResult sent = replies.poll(TIMEOUT, TimeUnit.MILLISECONDS);
        check(sent != null, "the reply was not sent");
        MessageExt stored = env.admin.viewMessage(sent.getMessageQueue().getTopic(), sent.getOffsetMsgId());
        equal("stored", "SYNC", text(stored));
        facts.put("stored", Arrays.asList(sent.getSendStatus(), sent.getMessageQueue(), sent.getRegionId(),
            stored.getSysFlag(), stored.getReconsumeTimes(), Env.propertyNames(stored)));

        CompletableFuture<Message> later = new CompletableFuture<>();
        asker.request(Env.message(topic, "tag", "async"), callback(later), TIMEOUT);
        equal("reply", "ASYNC", text(later.get(TIMEOUT, TimeUnit.MILLISECONDS)));

        MessageQueue queue = asker.fetchPublishMessageQueues(topic).get(0);
        String large = "x".repeat(100_000);
        equal("reply", large.toUpperCase(Locale.ROOT), text(asker.request(plain(topic, large), queue, TIMEOUT)));
        reply = asker.request(Env.message(topic, "tag", "selected"), (queues, message, arg) -> queues.get(1), 7, TIMEOUT);
        equal("reply", "SELECTED", text(reply));

        facts.put("no reply", failure(() -> asker.request(Env.message(topic, "tag", SILENCE), 300)));
        CompletableFuture<Message> never = new CompletableFuture<>();
        asker.request(Env.message(topic, "tag", SILENCE), callback(never), 300);
        try {
            never.get(TIMEOUT, TimeUnit.MILLISECONDS);
            throw new AssertionError("a reply came from nowhere");
        } catch (java.util.concurrent.ExecutionException none) {
            facts.put("no reply later", none.getCause().getClass().getSimpleName());
        }

        Message lost = new Message("DefaultCluster_REPLY_TOPIC", "lost".getBytes(StandardCharsets.UTF_8));
        MessageAccessor.putProperty(lost, MessageConst.PROPERTY_MESSAGE_TYPE, "reply");
        facts.put("reply to nobody, unnamed", failure(() -> env.producer.send(lost)));
        MessageAccessor.putProperty(lost, MessageConst.PROPERTY_MESSAGE_REPLY_TO_CLIENT, "nobody");
        facts.put("reply to nobody", failure(() -> env.producer.send(lost)));
        answerer.shutdown();
        asker.shutdown();
    }

    /** A Java client asks and the Rust client answers, and the other way round. */
    static void withRust(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("request-rust");
        env.createTopic(topic, 2);
        DefaultMQProducer asker = env.producer("askers-of-rust");
        asker.start();
        try (Peer answerer = Peer.start("answer", env.namesrv, topic, env.name("rust-answerers"))) {
            answerer.await("answering");
            for (String body : List.of("java to rust", "x".repeat(100_000))) {
                Message reply = asker.request(plain(topic, body), TIMEOUT);
                equal("reply", body.toUpperCase(Locale.ROOT), text(reply));
                facts.put("reply " + body.length(), Env.propertyNames((MessageExt) reply));
            }
        }
        String back = env.name("request-from-rust");
        env.createTopic(back, 2);
        DefaultMQPushConsumer answerer = answerer(env, back, new LinkedBlockingQueue<>());
        try (Peer rust = Peer.start("ask", env.namesrv, back, "rust to java")) {
            equal("reply to rust", "RUST TO JAVA", rust.await("reply"));
        }
        answerer.shutdown();
        asker.shutdown();
    }

    /** Replies with the body in capitals. */
    private static DefaultMQPushConsumer answerer(Env env, String topic, BlockingQueue<SendResult> replies)
        throws Exception {
        DefaultMQPushConsumer consumer = env.consumer(topic.substring(topic.indexOf('_') + 1) + "-answerers");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt request : messages) {
                if (!Env.body(request).equals(SILENCE)) {
                    byte[] body = Env.body(request).toUpperCase(Locale.ROOT).getBytes(StandardCharsets.UTF_8);
                    try {
                        replies.add(env.producer.send(MessageUtil.createReplyMessage(request, body)));
                    } catch (Exception failure) {
                        failure.printStackTrace();
                    }
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private static RequestCallback callback(CompletableFuture<Message> result) {
        return new RequestCallback() {
            @Override
            public void onSuccess(Message message) {
                // Called without a reply, too, when the request has been sent.
                if (message != null) {
                    result.complete(message);
                }
            }

            @Override
            public void onException(Throwable failure) {
                result.completeExceptionally(failure);
            }
        };
    }

    interface Action {
        void run() throws Exception;
    }

    /** How it fails: the client's code, or the broker's code and words. */
    static String failure(Action action) throws Exception {
        try {
            action.run();
            return "none";
        } catch (RequestTimeoutException timeout) {
            return "timeout " + timeout.getResponseCode();
        } catch (MQClientException failure) {
            MQBrokerException refusal = (MQBrokerException) failure.getCause();
            return refusal.getResponseCode() + " " + refusal.getErrorMessage();
        } catch (MQBrokerException refusal) {
            return refusal.getResponseCode() + " " + refusal.getErrorMessage();
        }
    }

    private static Message plain(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
