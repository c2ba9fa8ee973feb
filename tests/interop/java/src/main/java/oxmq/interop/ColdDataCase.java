package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.header.PullMessageRequestHeader;

/** A broker that limits what groups read of old messages, and for which every message is old. */
final class ColdDataCase {
    private static final int MESSAGES = 5;
    private static final int SUBSCRIPTION_FLAG = 4;

    private ColdDataCase() {
    }

    static void limited(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("cold");
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        env.createTopic(topic, 1);
        env.send(topic, "old", MESSAGES);
        String pulling = env.name("cold-pull");
        String pushed = env.name("cold-push");
        for (String group : List.of(pulling, pushed)) {
            Properties nothing = new Properties();
            nothing.setProperty(group, "0");
            env.admin.updateColdDataFlowCtrGroupConfig(env.brokerAddr(), nothing);
        }

        Received received = new Received();
        DefaultMQPushConsumer pushConsumer = env.consumer("cold-push");
        pushConsumer.subscribe(topic, "*");
        pushConsumer.registerMessageListener(received.concurrently());
        pushConsumer.start();
        received.awaitExactly("messages", Env.bodies("old", MESSAGES));
        RemotingCommand refused = pull(env, pushed, queue, 0);
        facts.put("push consumer", List.of(refused.getCode(), refused.getRemark()));
        facts.put("push consumer at the end", pull(env, pushed, queue, MESSAGES).getCode());

        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(pulling);
        consumer.setNamesrvAddr(env.namesrv);
        consumer.setConsumerPullTimeoutMillis(20_000);
        // Otherwise its broker hears of it after 30 s.
        consumer.setRegisterTopics(Set.of(topic));
        consumer.start();
        await("heartbeat",
            () -> env.admin.examineConsumerConnectionInfo(pulling, env.brokerAddr()).getConnectionSet().size() == 1);
        facts.put("first pull", found(consumer.pull(queue, "*", 0, 32)));
        long started = System.nanoTime();
        facts.put("held pull", found(consumer.pull(queue, "*", 0, 32)));
        check(System.nanoTime() - started >= TimeUnit.MILLISECONDS.toNanos(2900), "the pull was held");
        facts.put("pull at the end", consumer.pull(queue, "*", MESSAGES, 32).getPullStatus().toString());

        String info = env.admin.getColdDataFlowCtrInfo(env.brokerAddr());
        check(info.contains(pulling) && info.contains(pushed), info);
        env.admin.removeColdDataFlowCtrGroupConfig(env.brokerAddr(), pulling);
        facts.put("without a threshold", found(consumer.pull(queue, "*", 0, 32)));
        equal("received", MESSAGES, received.count());
        consumer.shutdown();
        pushConsumer.shutdown();
    }

    private static List<Object> found(PullResult pulled) {
        return List.of(pulled.getPullStatus().toString(), pulled.getMsgFoundList().size(), pulled.getNextBeginOffset());
    }

    /** Answered at once with a code, unlike what a consumer's own pulls tell. */
    private static RemotingCommand pull(Env env, String group, MessageQueue queue, long offset) throws Exception {
        PullMessageRequestHeader header = new PullMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(queue.getTopic());
        header.setQueueId(queue.getQueueId());
        header.setQueueOffset(offset);
        header.setMaxMsgNums(32);
        header.setSysFlag(SUBSCRIPTION_FLAG);
        header.setCommitOffset(0L);
        header.setSuspendTimeoutMillis(0L);
        header.setSubscription("*");
        header.setExpressionType("TAG");
        header.setSubVersion(0L);
        RemotingCommand request = RemotingCommand.createRequestCommand(RequestCode.PULL_MESSAGE, header);
        return env.admin.getDefaultMQAdminExtImpl().getMqClientInstance().getMQClientAPIImpl().getRemotingClient()
            .invokeSync(env.brokerAddr(), request, 10_000);
    }
}
