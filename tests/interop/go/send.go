package main

import (
	"bytes"
	"context"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func sendSync(e *env, f facts) {
	topic := e.name("send-sync")
	var results []*primitive.SendResult
	for _, body := range bodies("sync", 20) {
		result, err := e.producer.SendSync(context.Background(), message(topic, "tag", body))
		must(err)
		results = append(results, result)
	}
	checkSends(results, f)
	e.checkStored(topic, bodies("sync", 20), f)
}

func sendAsync(e *env, f facts) {
	topic := e.name("send-async")
	e.send(topic, "route", 1)
	var results []*primitive.SendResult
	var failures []error
	var mutex sync.Mutex
	var pending sync.WaitGroup
	for _, body := range bodies("async", 20) {
		pending.Add(1)
		must(e.producer.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failures = append(failures, err)
			} else {
				results = append(results, result)
			}
			pending.Done()
		}, message(topic, "tag", body)))
	}
	pending.Wait()
	check(len(failures) == 0, "asynchronous sends failed")
	equal("answers", 20, len(results))
	for _, result := range results {
		equal("status", primitive.SendOK, result.Status)
	}
	e.checkStored(topic, append(bodies("route", 1), bodies("async", 20)...), f)
}

func sendOneway(e *env, f facts) {
	topic := e.name("send-oneway")
	for _, body := range bodies("oneway", 20) {
		must(e.producer.SendOneWay(context.Background(), message(topic, "tag", body)))
	}
	e.checkStored(topic, bodies("oneway", 20), f)
}

func sendBatch(e *env, f facts) {
	topic := e.name("send-batch")
	e.createTopic(topic, 1)
	var expected []string
	for round, prefix := range []string{"a", "b", "c"} {
		var batch []*primitive.Message
		for _, body := range bodies(prefix, 10) {
			batch = append(batch, message(topic, "tag", body))
		}
		result, err := e.producer.SendSync(context.Background(), batch...)
		must(err)
		equal("status", primitive.SendOK, result.Status)
		equal("queue offset", int64(10*round), result.QueueOffset)
		f["offset-ids-"+prefix] = len(strings.Split(result.OffsetMsgID, ","))
		expected = append(expected, bodies(prefix, 10)...)
	}
	stored := e.readAll(topic, 30)
	equal("order", expected, bodiesOf(stored))
	f["properties"] = propertyNames(stored[0])
}

func messageRoundTrip(e *env, f facts) {
	topic := e.name("message-roundtrip")
	e.createTopic(topic, 1)
	noise := make([]byte, 200_000)
	rand.New(rand.NewSource(1)).Read(noise)
	all := [][]byte{[]byte("x"), {0}, []byte("hütte ☃ 消息 🦀"), noise, make([]byte, 1_000_000)}
	properties := map[string]string{"TAGS": "标签-☃", "KEYS": "first second drittér", "user": "vålue, \"quotes\" and \\ ☃", "namé": "1=2"}
	for _, body := range all {
		m := primitive.NewMessage(topic, body)
		for name, value := range properties {
			m.WithProperty(name, value)
		}
		m.Flag = 42
		result, err := e.producer.SendSync(context.Background(), m)
		must(err)
		equal("status", primitive.SendOK, result.Status)
	}
	stored := e.readAll(topic, len(all))
	for i, m := range stored {
		check(bytes.Equal(all[i], m.Body), "a body changed")
		for name, value := range properties {
			equal(name, value, m.GetProperty(name))
		}
		equal("flag", int32(42), m.Flag)
		f["message-"+string(rune('0'+i))] = []any{m.SysFlag, m.StoreSize, m.BodyCRC, m.QueueOffset, propertyNames(m)}
	}
}

func topicAuto(e *env, f facts) {
	topic := e.name("topic-auto")
	e.send(topic, "auto", 8)
	equal("queues", 4, len(e.queues(topic)))
	e.readAll(topic, 8)
}

func topicAdmin(e *env, f facts) {
	topic := e.name("topic-admin")
	e.createTopic(topic, 3)
	e.send(topic, "three", 6)
	e.readAll(topic, 6)
	listed := func() bool {
		list, err := e.admin.FetchAllTopicList(context.Background())
		must(err)
		return slices.Contains(list.TopicList, topic)
	}
	check(listed(), "the topic is not in the list")
	must(e.admin.DeleteTopic(context.Background(), admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(e.brokerAddr()),
		admin.WithNameSrvAddr(e.namesrv)))
	await("no topic", func() bool { return !listed() })
}

// checkSends wants contiguous queue offsets from 0, and ids of the right shape.
func checkSends(results []*primitive.SendResult, f facts) {
	next := map[int]int64{}
	for _, result := range results {
		equal("status", primitive.SendOK, result.Status)
		equal("length of offset id", 32, len(result.OffsetMsgID))
		equal("queue offset", next[result.MessageQueue.QueueId], result.QueueOffset)
		next[result.MessageQueue.QueueId]++
	}
	f["region"] = results[0].RegionID
	f["trace-on"] = results[0].TraceOn
}

func (e *env) checkStored(topic string, expected []string, f facts) {
	stored := e.readAll(topic, len(expected))
	equal("stored bodies", sorted(expected), sorted(bodiesOf(stored)))
	first := stored[0]
	equal("keys", "key-"+string(first.Body), first.GetKeys())
	equal("tags", "tag", first.GetTags())
	f["properties"] = propertyNames(first)
	f["sys-flag"] = first.SysFlag
	f["size"] = int(first.StoreSize) - 2*len(first.Body)
}

// quotas needs a broker that gives every topic and every group 100 messages a second.
func quotas(e *env, f facts) {
	const rate = 100
	topic := e.name("quotas")
	e.createTopic(topic, 4)
	tookAtLeast := func(what string, started time.Time, beyond int) {
		least := time.Duration(beyond)*time.Second/rate - 20*time.Millisecond
		check(time.Since(started) >= least, what+" were too fast")
	}
	started := time.Now()
	e.send(topic, "paced", 150)
	tookAtLeast("150 sends", started, 150-rate)
	started = time.Now()
	r := &received{}
	c := e.consume("quotas", topic, r)
	r.awaitExactly("messages", bodies("paced", 150))
	tookAtLeast("150 deliveries", started, 150-rate)
	must(c.Shutdown())
}
