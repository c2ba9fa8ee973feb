package oxmq.interop;

import static oxmq.interop.Env.await;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.protocol.admin.ConsumeStats;
import org.apache.rocketmq.remoting.protocol.body.AclInfo;
import org.apache.rocketmq.remoting.protocol.body.ConsumerRunningInfo;
import org.apache.rocketmq.remoting.protocol.body.KVTable;
import org.apache.rocketmq.remoting.protocol.body.UserInfo;
import org.apache.rocketmq.remoting.protocol.header.ExportRocksDBConfigToJsonRequestHeader.ConfigType;
import org.apache.rocketmq.remoting.protocol.statictopic.LogicQueueMappingItem;
import org.apache.rocketmq.remoting.protocol.statictopic.TopicQueueMappingDetail;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * The methods of DefaultMQAdminExt 5.5.0, all but these:
 * getControllerMetaData, getInSyncStateData, getControllerConfig, updateControllerConfig, electMaster,
 * cleanControllerBrokerData (there's no controller); addBrokerToContainer, removeBrokerFromContainer (there's no
 * container); getBrokerLiteInfo, getParentTopicInfo, getLiteTopicInfo, getLiteClientInfo, getLiteGroupInfo,
 * triggerLiteDispatch (no lite topics).
 */
final class AdminExtCases {
    private static final String CLUSTER = "DefaultCluster";
    private static final long TIMEOUT = 5000;

    private final Env env;
    private final DefaultMQAdminExt admin;
    private final AdminExtFacts facts;
    private final String broker;

    private AdminExtCases(Env env, Map<String, Object> facts) throws Exception {
        this.env = env;
        admin = env.admin;
        broker = env.brokerAddr();
        this.facts = new AdminExtFacts(facts, env.namesrv, broker);
    }

    /** Topics, groups, users, settings. It has the cluster for itself. */
    static void resources(Env env, Map<String, Object> facts) throws Exception {
        AdminExtCases cases = new AdminExtCases(env, facts);
        cases.topics();
        cases.groups();
        cases.keysAndValues();
        cases.settings();
        cases.brokers();
        cases.users();
        cases.policies();
        cases.deletedTopics();
    }

    private void topics() throws Exception {
        facts.got("examineBrokerClusterInfo", admin::examineBrokerClusterInfo);
        facts.got("getNameServerAddressList", admin::getNameServerAddressList);
        env.createTopic("ext-a", 2);
        TopicConfig full = new TopicConfig("ext-b", 3, 2, 6, 0);
        full.setOrder(true);
        full.setAttributes(new HashMap<>(Map.of("+message.type", "FIFO")));
        facts.did("createAndUpdateTopicConfig", () -> admin.createAndUpdateTopicConfig(broker, full));
        facts.did("createAndUpdateTopicConfig, wrong name",
            () -> admin.createAndUpdateTopicConfig(broker, new TopicConfig("ext/b", 1, 1)));
        facts.did("createAndUpdateTopicConfig, of the system",
            () -> admin.createAndUpdateTopicConfig(broker, new TopicConfig("TBW102", 1, 1)));
        TopicConfig unknown = new TopicConfig("ext-c", 1, 1);
        unknown.setAttributes(new HashMap<>(Map.of("+no.such", "1")));
        facts.did("createAndUpdateTopicConfig, wrong attribute", () -> admin.createAndUpdateTopicConfig(broker, unknown));
        facts.did("createAndUpdateTopicConfigList", () -> admin.createAndUpdateTopicConfigList(broker,
            List.of(new TopicConfig("ext-d", 1, 1), new TopicConfig("ext-e", 4, 4, 2, 0))));
        facts.did("createAndUpdateTopicConfigList, a wrong name", () -> admin.createAndUpdateTopicConfigList(broker,
            List.of(new TopicConfig("ext-f", 1, 1), new TopicConfig("ext/f", 1, 1))));
        await("routes", () -> !admin.examineTopicRouteInfo("ext-e").getQueueDatas().isEmpty());
        facts.did("createTopic", () -> admin.createTopic("TBW102", "ext-g", 5, new HashMap<>()));
        facts.did("createTopic with a flag", () -> admin.createTopic("TBW102", "ext-h", 1, 2, new HashMap<>()));
        facts.did("createTopic, wrong name", () -> admin.createTopic("TBW102", "ext/h", 1, new HashMap<>()));
        for (String topic : List.of("ext-b", "ext-e", "ext-g", "ext-h", "ext-none", "TBW102")) {
            facts.got("examineTopicConfig " + topic, () -> admin.examineTopicConfig(broker, topic));
        }
        await("routes", () -> !admin.examineTopicRouteInfo("ext-h").getQueueDatas().isEmpty()
            && !admin.examineTopicRouteInfo("ext-b").getQueueDatas().isEmpty());
        facts.got("examineTopicRouteInfo", () -> admin.examineTopicRouteInfo("ext-b"));
        facts.got("examineTopicRouteInfo, none", () -> admin.examineTopicRouteInfo("ext-none"));
        facts.got("fetchAllTopicList", () -> own(admin.fetchAllTopicList().getTopicList()));
        facts.got("fetchTopicsByCLuster", () -> own(admin.fetchTopicsByCLuster(CLUSTER).getTopicList()));
        facts.got("fetchTopicsByCLuster, none", () -> admin.fetchTopicsByCLuster("no-cluster"));
        facts.got("getTopicClusterList", () -> admin.getTopicClusterList("ext-a"));
        facts.got("getTopicClusterList, none", () -> admin.getTopicClusterList("ext-none"));
        facts.got("getClusterList", () -> admin.getClusterList("ext-a"));
        facts.got("getAllTopicConfig", () -> {
            Map<String, TopicConfig> all = admin.getAllTopicConfig(broker, TIMEOUT).getTopicConfigTable();
            return all.keySet().stream().filter(name -> !name.startsWith("admin-ext")).collect(Collectors.toList());
        });
        facts.got("getUserTopicConfig", () -> own(admin.getUserTopicConfig(broker, false, TIMEOUT).getTopicConfigTable()));
        facts.got("getUserTopicConfig, special ones",
            () -> own(admin.getUserTopicConfig(broker, true, TIMEOUT).getTopicConfigTable()));
        facts.got("examineTopicStats, nothing in it", () -> admin.examineTopicStats("ext-a"));
        facts.got("wipeWritePermOfBroker", () -> admin.wipeWritePermOfBroker(env.namesrv, "broker-a") > 8);
        facts.got("route, wiped", () -> admin.examineTopicRouteInfo("ext-b").getQueueDatas());
        facts.got("addWritePermOfBroker", () -> admin.addWritePermOfBroker(env.namesrv, "broker-a") > 8);
        facts.got("route, written again", () -> admin.examineTopicRouteInfo("ext-b").getQueueDatas());
        facts.got("wipeWritePermOfBroker, none", () -> admin.wipeWritePermOfBroker(env.namesrv, "no-broker"));
        TopicQueueMappingDetail mapping = new TopicQueueMappingDetail("ext-static", 1, "broker-a", 1);
        TopicQueueMappingDetail.putMappingInfo(mapping, 0,
            new ArrayList<>(List.of(new LogicQueueMappingItem(0, 0, "broker-a", 0, 0, -1, -1, -1))));
        facts.did("createStaticTopic",
            () -> admin.createStaticTopic(broker, "TBW102", new TopicConfig("ext-static", 1, 1), mapping, true));
        facts.got("examineTopicConfig ext-static", () -> admin.examineTopicConfig(broker, "ext-static"));
    }

    private static Set<String> own(Set<String> topics) {
        return topics.stream().filter(name -> name.startsWith("ext-")).collect(Collectors.toSet());
    }

    private static Map<String, TopicConfig> own(Map<String, TopicConfig> topics) {
        Map<String, TopicConfig> result = new HashMap<>(topics);
        result.keySet().removeIf(name -> !name.startsWith("ext-"));
        return result;
    }

    private static SubscriptionGroupConfig group(String name) {
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(name);
        return config;
    }

    private void groups() {
        SubscriptionGroupConfig full = group("ext-group");
        full.setConsumeBroadcastEnable(false);
        full.setRetryMaxTimes(3);
        full.setRetryQueueNums(2);
        full.setConsumeMessageOrderly(true);
        full.setAttributes(new HashMap<>(Map.of("+priority.factor", "30")));
        facts.did("createAndUpdateSubscriptionGroupConfig", () -> admin.createAndUpdateSubscriptionGroupConfig(broker, full));
        facts.did("createAndUpdateSubscriptionGroupConfig, wrong name",
            () -> admin.createAndUpdateSubscriptionGroupConfig(broker, group("ext/group")));
        facts.did("createAndUpdateSubscriptionGroupConfigList", () -> admin.createAndUpdateSubscriptionGroupConfigList(broker,
            List.of(group("ext-group-2"), group("ext-group-3"))));
        for (String name : List.of("ext-group", "ext-group-2", "ext-group-none", "TOOLS_CONSUMER")) {
            facts.got("examineSubscriptionGroupConfig " + name, () -> admin.examineSubscriptionGroupConfig(broker, name));
        }
        facts.got("getAllSubscriptionGroup", () -> {
            Set<String> all = new HashSet<>(admin.getAllSubscriptionGroup(broker, TIMEOUT).getSubscriptionGroupTable().keySet());
            all.removeIf(name -> !name.startsWith("ext-") && !name.startsWith("CID") && !name.endsWith("_CONSUMER"));
            return all;
        });
        facts.got("getUserSubscriptionGroup", () -> {
            Set<String> all = admin.getUserSubscriptionGroup(broker, TIMEOUT).getSubscriptionGroupTable().keySet();
            return all.stream().filter(name -> name.startsWith("ext-") || name.startsWith("CID")).collect(Collectors.toSet());
        });
        facts.got("updateAndGetGroupReadForbidden, as it is",
            () -> admin.updateAndGetGroupReadForbidden(broker, "ext-group", "ext-a", null));
        facts.got("updateAndGetGroupReadForbidden, not readable",
            () -> admin.updateAndGetGroupReadForbidden(broker, "ext-group", "ext-a", false));
        facts.got("updateAndGetGroupReadForbidden, what it is",
            () -> admin.updateAndGetGroupReadForbidden(broker, "ext-group", "ext-a", null));
        facts.got("updateAndGetGroupReadForbidden, readable",
            () -> admin.updateAndGetGroupReadForbidden(broker, "ext-group", "ext-a", true));
        facts.got("updateAndGetGroupReadForbidden, no group",
            () -> admin.updateAndGetGroupReadForbidden(broker, "ext-group-none", "ext-a", true));
        facts.did("setMessageRequestMode",
            () -> admin.setMessageRequestMode(broker, "ext-a", "ext-group-2", MessageRequestMode.POP, 2, TIMEOUT));
        facts.did("setMessageRequestMode, retry topic", () -> admin.setMessageRequestMode(broker, "%RETRY%ext-group-2",
            "ext-group-2", MessageRequestMode.POP, 2, TIMEOUT));
        facts.got("examineConsumerConnectionInfo, nobody", () -> admin.examineConsumerConnectionInfo("ext-group"));
        facts.got("examineProducerConnectionInfo, nobody",
            () -> admin.examineProducerConnectionInfo("ext-producers", "ext-a"));
        facts.got("examineConsumeStats, nobody", () -> admin.examineConsumeStats("ext-group"));
        facts.got("queryTopicsByConsumer, nobody", () -> admin.queryTopicsByConsumer("ext-group"));
        facts.got("queryTopicConsumeByWho, nobody", () -> admin.queryTopicConsumeByWho("ext-a"));
        facts.got("querySubscription, nobody", () -> admin.querySubscription("ext-group", "ext-a"));
        facts.got("getConsumerRunningInfo, nobody", () -> admin.getConsumerRunningInfo("ext-group", "nobody", false));
        facts.did("deleteSubscriptionGroup", () -> admin.deleteSubscriptionGroup(broker, "ext-group-2"));
        facts.did("deleteSubscriptionGroup, with offsets", () -> admin.deleteSubscriptionGroup(broker, "ext-group-3", true));
        facts.did("deleteSubscriptionGroup, none", () -> admin.deleteSubscriptionGroup(broker, "ext-group-none"));
        // One that is deleted without its offsets comes back at once on the original, with other settings.
        facts.got("examineSubscriptionGroupConfig, deleted", () -> admin.examineSubscriptionGroupConfig(broker, "ext-group-3"));
    }

    private void keysAndValues() {
        facts.did("putKVConfig", () -> admin.putKVConfig("ext", "a", "1"));
        facts.did("createAndUpdateKvConfig", () -> admin.createAndUpdateKvConfig("ext", "b", "2"));
        facts.got("getKVConfig", () -> admin.getKVConfig("ext", "b"));
        facts.got("getKVConfig, none", () -> admin.getKVConfig("ext", "c"));
        facts.got("getKVListByNamespace", () -> admin.getKVListByNamespace("ext"));
        facts.did("deleteKvConfig", () -> admin.deleteKvConfig("ext", "b"));
        facts.did("deleteKvConfig, none", () -> admin.deleteKvConfig("ext", "b"));
        facts.got("getKVListByNamespace, less", () -> admin.getKVListByNamespace("ext"));
        facts.got("getKVListByNamespace, none", () -> admin.getKVListByNamespace("none"));
        facts.did("createOrUpdateOrderConf", () -> admin.createOrUpdateOrderConf("ext-a", "broker-a:2", true));
        facts.did("createOrUpdateOrderConf, a broker", () -> admin.createOrUpdateOrderConf("ext-a", "broker-b:3", false));
        facts.got("order of ext-a", () -> admin.getKVConfig("ORDER_TOPIC_CONFIG", "ext-a"));
    }

    private void settings() {
        facts.did("updateBrokerConfig", () -> admin.updateBrokerConfig(broker, properties("fileReservedTime", "48")));
        facts.got("getBrokerConfig", () -> some(admin.getBrokerConfig(broker), "brokerName", "brokerClusterName", "brokerId",
            "fileReservedTime", "deleteWhen", "flushDiskType", "brokerRole", "cgColdReadThreshold",
            "globalColdReadThreshold", "coldDataFlowControlEnable", "dataReadAheadEnable"));
        facts.did("updateBrokerConfig, on the black list",
            () -> admin.updateBrokerConfig(broker, properties("brokerConfigPath", "/tmp/broker.conf")));
        facts.did("updateBrokerConfig, home",
            () -> admin.updateBrokerConfig(broker, properties("rocketmqHome", "/tmp")));
        List<String> servers = List.of(env.namesrv);
        facts.did("updateNameServerConfig",
            () -> admin.updateNameServerConfig(properties("enableTopicList", "true"), servers));
        facts.got("getNameServerConfig", () -> some(admin.getNameServerConfig(servers).values().iterator().next(),
            "enableTopicList", "returnOrderTopicConfigToBroker", "orderMessageEnable"));
        facts.did("updateNameServerConfig, a path",
            () -> admin.updateNameServerConfig(properties("kvConfigPath", "/tmp/kv.json"), servers));
    }

    private static Properties properties(String key, String value) {
        Properties result = new Properties();
        result.setProperty(key, value);
        return result;
    }

    private static Map<String, String> some(Properties all, String... keys) {
        Map<String, String> result = new HashMap<>();
        for (String key : keys) {
            result.put(key, all.getProperty(key));
        }
        return result;
    }

    private void brokers() {
        facts.got("fetchBrokerRuntimeStats", () -> {
            KVTable stats = admin.fetchBrokerRuntimeStats(broker);
            return new TreeSet<>(stats.getTable().keySet());
        });
        facts.got("viewBrokerStatsData, none", () -> admin.viewBrokerStatsData(broker, "TOPIC_PUT_NUMS", "ext-none"));
        facts.got("getBrokerHAStatus", () -> admin.getBrokerHAStatus(broker).isMaster());
        facts.got("getBrokerEpochCache", () -> admin.getBrokerEpochCache(broker));
        facts.did("resetMasterFlushOffset", () -> admin.resetMasterFlushOffset(broker, 5));
        facts.got("cleanExpiredConsumerQueue", () -> admin.cleanExpiredConsumerQueue(CLUSTER));
        facts.got("cleanExpiredConsumerQueueByAddr", () -> admin.cleanExpiredConsumerQueueByAddr(broker));
        facts.got("deleteExpiredCommitLog", () -> admin.deleteExpiredCommitLog(CLUSTER));
        facts.got("deleteExpiredCommitLogByAddr", () -> admin.deleteExpiredCommitLogByAddr(broker));
        facts.got("cleanUnusedTopic", () -> admin.cleanUnusedTopic(CLUSTER));
        facts.got("cleanUnusedTopicByAddr", () -> admin.cleanUnusedTopicByAddr(broker));
        facts.got("cleanUnusedTopic, no cluster", () -> admin.cleanUnusedTopic("no-cluster"));
        facts.did("updateColdDataFlowCtrGroupConfig",
            () -> admin.updateColdDataFlowCtrGroupConfig(broker, properties("ext-group", "1024")));
        facts.did("updateColdDataFlowCtrGroupConfig, no number",
            () -> admin.updateColdDataFlowCtrGroupConfig(broker, properties("ext-group", "many")));
        facts.got("getColdDataFlowCtrInfo", () -> admin.getColdDataFlowCtrInfo(broker));
        facts.did("removeColdDataFlowCtrGroupConfig", () -> admin.removeColdDataFlowCtrGroupConfig(broker, "ext-group"));
        facts.did("removeColdDataFlowCtrGroupConfig, none", () -> admin.removeColdDataFlowCtrGroupConfig(broker, "ext-none"));
        facts.got("getColdDataFlowCtrInfo, less", () -> admin.getColdDataFlowCtrInfo(broker));
        for (String mode : List.of("1", "0", "2", "many")) {
            facts.got("setCommitLogReadAheadMode " + mode, () -> admin.setCommitLogReadAheadMode(broker, mode));
        }
        facts.got("checkRocksdbCqWriteProgress", () -> admin.checkRocksdbCqWriteProgress(broker, "ext-a", 0));
        facts.got("checkRocksdbCqWriteProgress, all", () -> admin.checkRocksdbCqWriteProgress(broker, null, 0));
        facts.did("exportRocksDBConfigToJson", () -> admin.exportRocksDBConfigToJson(broker, List.of(ConfigType.TOPICS)));
        facts.did("exportPopRecords", () -> admin.exportPopRecords(broker, TIMEOUT));
        facts.did("switchTimerEngine", () -> admin.switchTimerEngine(broker, "F"));
        facts.did("switchTimerEngine, to RocksDB", () -> admin.switchTimerEngine(broker, "R"));
        facts.got("getAllProducerInfo", () -> {
            Set<String> groups = new HashSet<>(admin.getAllProducerInfo(broker).getData().keySet());
            groups.removeIf(name -> name.contains("shared"));
            return groups;
        });
    }

    private void users() {
        facts.did("createUser", () -> admin.createUser(broker, "ext-user", "secret7", "Normal"));
        facts.did("createUser again", () -> admin.createUser(broker, "ext-user", "secret7", "Normal"));
        facts.did("createUser, an object", () -> admin.createUser(broker, UserInfo.of("ext-root", "secret7", "Super")));
        facts.did("createUser, no type", () -> admin.createUser(broker, "ext-x", "secret7", "Odd"));
        facts.did("createUser, no password", () -> admin.createUser(broker, "ext-x", "", "Normal"));
        facts.did("updateUser", () -> admin.updateUser(broker, "ext-user", "other77", "Normal", "disable"));
        facts.did("updateUser, an object", () -> admin.updateUser(broker, UserInfo.of("ext-root", "other77", "Super", "enable")));
        facts.did("updateUser, none", () -> admin.updateUser(broker, "ext-none", "other77", "Normal", "enable"));
        facts.got("getUser", () -> unsaid(admin.getUser(broker, "ext-user")));
        facts.got("getUser, none", () -> admin.getUser(broker, "ext-none"));
        facts.got("listUser", () -> admin.listUser(broker, "ext").stream().map(AdminExtCases::unsaid)
            .collect(Collectors.toList()));
        facts.got("listUser, none", () -> admin.listUser(broker, "nobody"));
    }

    /** Here passwords are for those who sign. */
    private static UserInfo unsaid(UserInfo user) {
        user.setPassword("PASSWORD");
        return user;
    }

    private void policies() {
        List<String> topics = List.of("Topic:ext-a", "Group:*");
        facts.did("createAcl", () -> admin.createAcl(broker, "User:ext-user", topics, List.of("Pub", "Sub"),
            List.of("10.0.0.1"), "Allow"));
        facts.did("createAcl, an object", () -> admin.createAcl(broker, AclInfo.of("User:ext-root", List.of("Topic:ext-*"),
            List.of("All"), List.of(), "Deny")));
        facts.did("createAcl, nobody", () -> admin.createAcl(broker, "User:ext-none", topics, List.of("Pub"), List.of(), "Allow"));
        facts.did("createAcl, wrong action", () -> admin.createAcl(broker, "User:ext-user", topics, List.of("Drink"), List.of(),
            "Allow"));
        facts.did("createAcl, wrong decision", () -> admin.createAcl(broker, "User:ext-user", topics, List.of("Pub"), List.of(),
            "Perhaps"));
        facts.did("updateAcl", () -> admin.updateAcl(broker, "User:ext-user", List.of("Topic:ext-a"), List.of("Sub"), List.of(),
            "Deny"));
        facts.did("updateAcl, an object", () -> admin.updateAcl(broker, AclInfo.of("User:ext-root", List.of("Group:ext-group"),
            List.of("Sub"), List.of("10.0.0.0/8"), "Allow")));
        facts.got("getAcl", () -> admin.getAcl(broker, "User:ext-user"));
        facts.got("getAcl, none", () -> admin.getAcl(broker, "User:ext-none"));
        facts.got("listAcl", () -> admin.listAcl(broker, "ext", ""));
        facts.got("listAcl, of a topic", () -> admin.listAcl(broker, "", "Topic:ext-a"));
        facts.did("deleteAcl, one", () -> admin.deleteAcl(broker, "User:ext-user", "Topic:ext-a"));
        facts.got("listAcl, less", () -> admin.listAcl(broker, "ext-user", ""));
        facts.did("deleteAcl", () -> admin.deleteAcl(broker, "User:ext-root", ""));
        facts.did("deleteAcl, none", () -> admin.deleteAcl(broker, "User:ext-none", ""));
        facts.got("listAcl, few", () -> admin.listAcl(broker, "", ""));
        facts.did("deleteUser", () -> admin.deleteUser(broker, "ext-user"));
        facts.did("deleteUser, none", () -> admin.deleteUser(broker, "ext-none"));
        facts.got("listAcl, without its user", () -> admin.listAcl(broker, "", ""));
    }

    private void deletedTopics() {
        facts.did("deleteTopicInBroker", () -> admin.deleteTopicInBroker(Set.of(broker), "ext-a"));
        facts.got("deleteTopicInBrokerConcurrent", () -> admin.deleteTopicInBrokerConcurrent(Set.of(broker), "ext-b"));
        facts.did("deleteTopicInBroker, none", () -> admin.deleteTopicInBroker(Set.of(broker), "ext-none"));
        facts.did("deleteTopicInBroker, of the system", () -> admin.deleteTopicInBroker(Set.of(broker), "TBW102"));
        facts.did("deleteTopicInNameServer", () -> admin.deleteTopicInNameServer(Set.of(env.namesrv), "ext-a"));
        facts.did("deleteTopicInNameServer, of a cluster",
            () -> admin.deleteTopicInNameServer(Set.of(env.namesrv), CLUSTER, "ext-b"));
        facts.did("deleteTopicInNameServer, none", () -> admin.deleteTopicInNameServer(Set.of(env.namesrv), "ext-none"));
        facts.did("deleteTopic", () -> admin.deleteTopic("ext-d", CLUSTER));
        facts.got("fetchAllTopicList, less", () -> own(admin.fetchAllTopicList().getTopicList()));
        facts.got("examineTopicRouteInfo, deleted", () -> admin.examineTopicRouteInfo("ext-b"));
    }

    /** Messages and who consumes them. */
    static void messages(Env env, Map<String, Object> facts) throws Exception {
        new AdminExtCases(env, facts).messages();
    }

    private void messages() throws Exception {
        String topic = env.name("ext-messages");
        env.createTopic(topic, 2);
        MessageQueue first = new MessageQueue(topic, "broker-a", 0);
        MessageQueue second = new MessageQueue(topic, "broker-a", 1);
        List<SendResult> sent = new ArrayList<>();
        long began = System.currentTimeMillis();
        for (String body : Env.bodies("message", 6)) {
            sent.add(env.producer.send(Env.message(topic, "tag", body), sent.size() < 4 ? first : second));
        }
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("ext-group");
        String group = consumer.getConsumerGroup();
        consumer.subscribe(topic, "tag || other");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        received.awaitExactly("messages", Env.bodies("message", 6));
        await("offsets", () -> {
            consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return admin.examineConsumeStats(group, topic).computeTotalDiff() == 0
                && admin.examineConsumeStats(group, topic).getOffsetTable().size() == 2;
        });
        await("index", () -> env.reader.queryMessage(topic, "key-message-005", 1, 0, Long.MAX_VALUE).getMessageList()
            .size() == 1);
        offsets(topic, first, began);
        found(topic, sent.get(1));
        consumed(topic, group, consumer.buildMQClientId(), sent.get(1));
        consumer.shutdown();
        moved(topic, group, first);
    }

    private void offsets(String topic, MessageQueue queue, long began) throws Exception {
        facts.got("maxOffset", () -> admin.maxOffset(queue));
        facts.got("minOffset", () -> admin.minOffset(queue));
        facts.got("maxOffset, no queue", () -> admin.maxOffset(new MessageQueue(topic, "broker-a", 9)));
        facts.got("maxOffset, no topic", () -> admin.maxOffset(new MessageQueue("ext-none", "broker-a", 0)));
        facts.got("earliestMsgStoreTime", () -> admin.earliestMsgStoreTime(queue) >= began);
        long later = System.currentTimeMillis() + 1_000_000;
        for (long time : new long[] {0, later}) {
            String when = time == 0 ? "first" : "last";
            facts.got("searchOffset " + when, () -> admin.searchOffset(queue, time));
            facts.got("searchLowerBoundaryOffset " + when, () -> admin.searchLowerBoundaryOffset(queue, time));
            facts.got("searchUpperBoundaryOffset " + when, () -> admin.searchUpperBoundaryOffset(queue, time));
            facts.got("searchOffset of a broker " + when, () -> admin.searchOffset(broker, topic, 1, time, TIMEOUT));
        }
        facts.got("examineTopicStats", () -> admin.examineTopicStats(topic));
        facts.got("examineTopicStats of a broker", () -> admin.examineTopicStats(broker, topic));
        facts.got("examineTopicStatsConcurrent", () -> admin.examineTopicStatsConcurrent(topic));
        facts.got("examineTopicStats, none", () -> admin.examineTopicStats("ext-none"));
        facts.got("examineTopicStats of a broker, none", () -> admin.examineTopicStats(broker, "ext-none"));
        facts.got("queryConsumeQueue", () -> admin.queryConsumeQueue(broker, topic, 0, 1, 2, null));
        facts.got("queryConsumeQueue, beyond", () -> admin.queryConsumeQueue(broker, topic, 0, 100, 2, null));
    }

    private void found(String topic, SendResult sent) {
        String key = "key-message-001";
        long end = Long.MAX_VALUE;
        facts.got("queryMessage", () -> messages(admin.queryMessage(topic, key, 32, 0, end)));
        facts.got("queryMessage of a cluster", () -> messages(admin.queryMessage(CLUSTER, topic, key, 32, 0, end)));
        facts.got("queryMessage with a kind of key",
            () -> messages(admin.queryMessage(CLUSTER, topic, key, 32, 0, end, "K", null)));
        facts.got("queryMessage, none", () -> admin.queryMessage(topic, "key-none", 32, 0, end));
        facts.got("queryMessage, by id", () -> admin.queryMessage(CLUSTER, topic, sent.getOffsetMsgId()));
        facts.got("queryMessage, by unique id", () -> admin.queryMessage(CLUSTER, topic, sent.getMsgId()));
        facts.got("queryMessageByUniqKey",
            () -> messages(admin.queryMessageByUniqKey(CLUSTER, topic, sent.getMsgId(), 32, 0, end)));
        facts.got("viewMessage, by id", () -> admin.viewMessage(topic, sent.getOffsetMsgId()));
        facts.got("viewMessage, by unique id", () -> admin.viewMessage(topic, sent.getMsgId()));
        facts.got("viewMessage, none", () -> admin.viewMessage(topic, "7F0000010001000000000000000A0001"));
        // Of a message that is none, the original makes a half message.
        facts.got("resumeCheckHalfMessage, none",
            () -> admin.resumeCheckHalfMessage(topic, "7F0000010000303900000000FFFFFFFF"));
    }

    private static List<MessageExt> messages(QueryResult found) {
        return found.getMessageList();
    }

    private void consumed(String topic, String group, String client, SendResult sent) throws Exception {
        facts.got("examineConsumeStats", () -> admin.examineConsumeStats(group, topic));
        facts.got("examineConsumeStats of a cluster", () -> admin.examineConsumeStats(CLUSTER, group, topic));
        facts.got("examineConsumeStats of a group", () -> ofTopic(admin.examineConsumeStats(group), topic));
        facts.got("examineConsumeStats of a broker", () -> admin.examineConsumeStats(broker, group, topic, TIMEOUT));
        facts.got("examineConsumeStatsConcurrent", () -> admin.examineConsumeStatsConcurrent(group, topic));
        facts.got("examineConsumerConnectionInfo", () -> admin.examineConsumerConnectionInfo(group));
        facts.got("examineConsumerConnectionInfo of a broker", () -> admin.examineConsumerConnectionInfo(group, broker));
        facts.got("examineProducerConnectionInfo",
            () -> admin.examineProducerConnectionInfo(env.producer.getProducerGroup(), topic));
        facts.got("queryTopicConsumeByWho", () -> admin.queryTopicConsumeByWho(topic));
        facts.got("queryTopicsByConsumer", () -> admin.queryTopicsByConsumer(group));
        facts.got("queryTopicsByConsumerConcurrent", () -> admin.queryTopicsByConsumerConcurrent(group));
        facts.got("querySubscription", () -> admin.querySubscription(group, topic));
        facts.got("querySubscription, none", () -> admin.querySubscription(group, "ext-none"));
        facts.got("queryConsumeTimeSpan", () -> admin.queryConsumeTimeSpan(topic, group));
        facts.got("queryConsumeTimeSpanConcurrent", () -> admin.queryConsumeTimeSpanConcurrent(topic, group));
        facts.got("getConsumerRunningInfo", () -> running(admin.getConsumerRunningInfo(group, client, false)));
        facts.got("getConsumerRunningInfo with a stack", () -> running(admin.getConsumerRunningInfo(group, client, true)));
        facts.got("getConsumerRunningInfo with metrics",
            () -> running(admin.getConsumerRunningInfo(group, client, false, true)));
        facts.got("getConsumeStatus", () -> admin.getConsumeStatus(topic, group, client));
        facts.got("getConsumeStatus of all", () -> admin.getConsumeStatus(topic, group, ""));
        facts.got("consumeMessageDirectly", () -> told(admin.consumeMessageDirectly(group, client, topic, sent.getMsgId())));
        facts.got("consumeMessageDirectly in a cluster",
            () -> told(admin.consumeMessageDirectly(CLUSTER, group, client, topic, sent.getMsgId())));
        facts.got("consumeMessageDirectly, nobody",
            () -> admin.consumeMessageDirectly(group, "nobody", topic, sent.getMsgId()));
        MessageExt message = admin.viewMessage(topic, sent.getOffsetMsgId());
        facts.got("messageTrackDetail", () -> admin.messageTrackDetail(message));
        facts.got("messageTrackDetailConcurrent", () -> admin.messageTrackDetailConcurrent(message));
        facts.got("fetchConsumeStatsInBroker", () -> {
            List<Object> found = new ArrayList<>();
            admin.fetchConsumeStatsInBroker(broker, false, TIMEOUT).getConsumeStatsList().forEach(each -> found.add(each.get(group)));
            found.removeIf(each -> each == null);
            return found;
        });
    }

    private static ConsumeStats ofTopic(ConsumeStats stats, String topic) {
        stats.getOffsetTable().keySet().removeIf(queue -> !queue.getTopic().equals(topic));
        return stats;
    }

    private static Object running(ConsumerRunningInfo info) {
        return List.of(info.getSubscriptionSet(), info.getMqTable().keySet(), info.getStatusTable().keySet(),
            info.getProperties().keySet(), info.getJstack() != null);
    }

    private static Object told(org.apache.rocketmq.remoting.protocol.body.ConsumeMessageDirectlyResult result) {
        result.setSpentTimeMills(0);
        return result;
    }

    private void moved(String topic, String group, MessageQueue queue) throws Exception {
        await("the end of the consumer", () -> {
            try {
                return admin.examineConsumerConnectionInfo(group).getConnectionSet().isEmpty();
            } catch (org.apache.rocketmq.client.exception.MQBrokerException gone) {
                return true;
            }
        });
        facts.got("examineConsumerConnectionInfo, gone", () -> admin.examineConsumerConnectionInfo(group));
        facts.code("getConsumeStatus, gone", () -> admin.getConsumeStatus(topic, group, ""));
        facts.did("updateConsumeOffset", () -> admin.updateConsumeOffset(broker, group, queue, 2));
        facts.got("examineConsumeStats, moved", () -> admin.examineConsumeStats(group, topic));
        facts.got("resetOffsetByTimestampOld", () -> admin.resetOffsetByTimestampOld(group, topic, 0, true));
        facts.got("resetOffsetByTimestampOld of a cluster",
            () -> admin.resetOffsetByTimestampOld(CLUSTER, group, topic, System.currentTimeMillis() + 1_000_000, false));
        facts.got("resetOffsetByTimestamp", () -> admin.resetOffsetByTimestamp(topic, group, 0, true));
        facts.got("resetOffsetByTimestamp, again", () -> admin.resetOffsetByTimestamp(topic, group, 0, true, true));
        facts.got("resetOffsetByTimestamp of a cluster", () -> admin.resetOffsetByTimestamp(CLUSTER, topic, group, -1, true));
        facts.got("resetOffsetByTimestamp of a cluster, again",
            () -> admin.resetOffsetByTimestamp(CLUSTER, topic, group, 0, false, false));
        facts.did("resetOffsetNew", () -> admin.resetOffsetNew(group, topic, 0));
        facts.got("resetOffsetNewConcurrent", () -> admin.resetOffsetNewConcurrent(group, topic, 0));
        facts.did("resetOffsetByQueueId", () -> admin.resetOffsetByQueueId(broker, group, topic, 0, 3));
        facts.did("resetOffsetByQueueId, beyond", () -> admin.resetOffsetByQueueId(broker, group, topic, 0, 77));
        facts.got("resetOffsetByTimestamp, no group", () -> admin.resetOffsetByTimestamp(topic, "ext-none", 0, true));
        String other = env.name("ext-clone");
        SubscriptionGroupConfig config = group(other);
        admin.createAndUpdateSubscriptionGroupConfig(broker, config);
        facts.did("cloneGroupOffset", () -> admin.cloneGroupOffset(group, other, topic, false));
        facts.did("cloneGroupOffset, no topic", () -> admin.cloneGroupOffset(group, other, "ext-none", true));
        facts.got("examineConsumeStats of the clone", () -> admin.examineConsumeStats(other, topic));
    }
}
