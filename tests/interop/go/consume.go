package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func consumeConcurrent(e *env, f facts) {
	topic := e.name("consume-concurrent")
	e.send(topic, "before", 40)
	r := &received{}
	c := e.consume("consume-concurrent", topic, r)
	expected := bodies("before", 40)
	r.awaitExactly("messages of the past", expected)
	// Now every pull waits at the broker, and a new message has to wake one up.
	e.send(topic, "live", 4)
	expected = append(expected, bodies("live", 4)...)
	r.awaitExactly("live messages", expected)
	must(c.Shutdown())
	f["properties"] = propertyNames(r.all()[0])
}

func consumeOrderly(e *env, f facts) {
	topic := e.name("consume-orderly")
	e.createTopic(topic, 4)
	queues := e.queues(topic)
	var expected []string
	for i := range 10 {
		for key := range 4 {
			body := fmt.Sprintf("%d-%03d", key, i)
			expected = append(expected, body)
			m := message(topic, "tag", body)
			m.Queue = queues[key]
			_, err := e.producer.SendSync(context.Background(), m)
			must(err)
		}
	}
	r := &received{}
	c := e.consume("consume-orderly", topic, r, consumer.WithConsumerOrder(true))
	r.awaitExactly("orderly messages", expected)
	must(c.Shutdown())
	for key := range 4 {
		mine := slices.DeleteFunc(r.bodies(), func(body string) bool { return body[0] != byte('0'+key) })
		equal("order", bodies(fmt.Sprint(key), 10), mine)
	}
}

func consumeBroadcast(e *env, f facts) {
	topic := e.name("consume-broadcast")
	e.send(topic, "all", 20)
	var both [2]received
	var consumers []rocketmq.PushConsumer
	for i := range both {
		consumers = append(consumers, e.consume("consume-broadcast", topic, &both[i],
			consumer.WithConsumerModel(consumer.BroadCasting)))
	}
	for i := range both {
		both[i].awaitExactly("broadcast", bodies("all", 20))
	}
	for _, c := range consumers {
		must(c.Shutdown())
	}
}

func filterTags(e *env, f facts) {
	topic := e.name("filter-tags")
	for _, tag := range []string{"a", "b", "c", "d"} {
		for i := range 4 {
			_, err := e.producer.SendSync(context.Background(), message(topic, tag, fmt.Sprint(tag, "-", i)))
			must(err)
		}
	}
	for expression, expected := range map[string]int{"*": 16, "a || b": 8, "c": 4} {
		r := &received{}
		c := e.consumeWith(fmt.Sprint("filter-tags-", expected), topic,
			consumer.MessageSelector{Type: consumer.TAG, Expression: expression},
			func(_ context.Context, messages []*primitive.MessageExt) consumer.ConsumeResult {
				r.add(messages)
				return consumer.ConsumeSuccess
			})
		await("messages with "+expression, func() bool { return len(r.all()) >= expected })
		must(c.Shutdown())
		equal("messages with "+expression, expected, len(r.all()))
		f[expression] = sorted(r.bodies())
	}
}

// filterSQL: past messages, and one out of pulls that wait through others.
func filterSQL(e *env, f facts) {
	topic := e.name("filter-sql")
	send := func(body string, properties map[string]string) {
		m := message(topic, "tag", body)
		for name, value := range properties {
			m.WithProperty(name, value)
		}
		_, err := e.producer.SendSync(context.Background(), m)
		must(err)
	}
	for i := range 10 {
		send(fmt.Sprint("past-", i), map[string]string{"a": fmt.Sprint(i)})
	}
	send("past-none", map[string]string{"b": "x"})
	for index, expression := range []string{"a BETWEEN 3 AND 5 AND TAGS = 'tag'", "a IS NULL OR a = 4", "b IN ('x', 'y') OR a = 5"} {
		past := []int{3, 2, 2}[index]
		r := &received{}
		c := e.consumeWith(fmt.Sprint("filter-sql-", index), topic,
			consumer.MessageSelector{Type: consumer.SQL92, Expression: expression},
			func(_ context.Context, messages []*primitive.MessageExt) consumer.ConsumeResult {
				r.add(messages)
				return consumer.ConsumeSuccess
			})
		// Each consumer before this one left a message for all.
		await("past messages with "+expression, func() bool { return len(r.all()) >= past+index })
		for range 30 {
			send("other", map[string]string{"a": "6"})
		}
		send(fmt.Sprint("live-", index), map[string]string{"a": "4", "b": "y"})
		await("live messages with "+expression, func() bool { return len(r.all()) > past+index })
		must(c.Shutdown())
		f[expression] = sorted(r.bodies())
	}
}

// consumeFromWhere: a group that the broker does not know starts at 0 as long as nothing has been deleted.
func consumeFromWhere(e *env, f facts) {
	topic := e.name("consume-from-where")
	e.send(topic, "past", 8)
	for name, where := range map[string]consumer.ConsumeFromWhere{"first": consumer.ConsumeFromFirstOffset,
		"last": consumer.ConsumeFromLastOffset, "timestamp": consumer.ConsumeFromTimestamp} {
		r := &received{}
		c := e.consume("consume-from-where-"+name, topic, r, consumer.WithConsumeFromWhere(where))
		r.awaitExactly(name, bodies("past", 8))
		must(c.Shutdown())
	}
}

func rebalance(e *env, f facts) {
	topic := e.name("rebalance")
	e.createTopic(topic, 4)
	var both [2]received
	var consumers []rocketmq.PushConsumer
	for i := range both {
		consumers = append(consumers, e.consume("rebalance", topic, &both[i]))
	}
	// Probes go on until each consumer has had messages of its own two queues only.
	count := func(prefix string) (counts [2]int) {
		for i := range both {
			for _, body := range both[i].bodies() {
				if len(body) > len(prefix) && body[:len(prefix)] == prefix {
					counts[i]++
				}
			}
		}
		return counts
	}
	probe := 0
	await("two queues each", func() bool {
		probe++
		prefix := fmt.Sprintf("probe%d", probe)
		e.send(topic, prefix, 4)
		await("probe", func() bool { counts := count(prefix); return counts[0]+counts[1] >= 4 })
		return count(prefix) == [2]int{2, 2}
	})
	e.send(topic, "shared", 40)
	await("shared messages", func() bool { counts := count("shared"); return counts[0]+counts[1] >= 40 })
	equal("shares", [2]int{20, 20}, count("shared"))
	must(consumers[0].Shutdown())
	e.send(topic, "alone", 40)
	await("the other takes over", func() bool { return count("alone")[1] >= 40 })
	equal("shares", [2]int{0, 40}, count("alone"))
	must(consumers[1].Shutdown())
}

func consumerRestart(e *env, f facts) {
	topic := e.name("consumer-restart")
	for _, round := range []string{"first", "second"} {
		e.send(topic, round, 20)
		r := &received{}
		c := e.consume("consumer-restart", topic, r)
		r.awaitExactly(round, bodies(round, 20))
		settle()
		must(c.Shutdown())
	}
}

// retry fails twice: the first time with the default delay (10 s), the second with an explicit one (1 s).
func retry(e *env, f facts) {
	topic := e.name("retry")
	e.send(topic, "retried", 2)
	r := &received{}
	c := e.consumeWith("retry", topic, everything, func(ctx context.Context, messages []*primitive.MessageExt) consumer.ConsumeResult {
		r.add(messages)
		if messages[0].ReconsumeTimes >= 2 {
			return consumer.ConsumeSuccess
		}
		if messages[0].ReconsumeTimes == 1 {
			delay, _ := primitive.GetConcurrentlyCtx(ctx)
			delay.DelayLevelWhenNextConsume = 1
		}
		return consumer.ConsumeRetryLater
	})
	r.awaitExactly("three deliveries", slices.Concat(bodies("retried", 2), bodies("retried", 2), bodies("retried", 2)))
	must(c.Shutdown())
	var times []int32
	var names [][]string
	for _, m := range r.all() {
		equal("topic shown to the application", topic, m.Topic)
		if string(m.Body) == "retried-000" {
			times = append(times, m.ReconsumeTimes)
			names = append(names, propertyNames(m))
		}
	}
	equal("reconsume times", []int32{0, 1, 2}, times)
	f["properties"] = names
}

func deadLetter(e *env, f facts) {
	topic := e.name("dead-letter")
	e.send(topic, "dead", 1)
	r := &received{}
	c := e.consumeWith("dead-letter", topic, everything, func(ctx context.Context, messages []*primitive.MessageExt) consumer.ConsumeResult {
		r.add(messages)
		delay, _ := primitive.GetConcurrentlyCtx(ctx)
		delay.DelayLevelWhenNextConsume = 1
		return consumer.ConsumeRetryLater
	}, consumer.WithMaxReconsumeTimes(1))
	deadLetters := "%DLQ%" + e.name("dead-letter")
	dead := e.readAll(deadLetters, 1)[0]
	must(c.Shutdown())
	equal("body", "dead-000", string(dead.Body))
	f["dead"] = []any{dead.ReconsumeTimes, propertyNames(dead), len(r.all())}
}

func pull(e *env, f facts) {
	topic := e.name("pull")
	e.createTopic(topic, 1)
	queue := e.queues(topic)[0]
	describe := func(offset int64, count int) []any {
		result, err := e.reader.PullFrom(context.Background(), queue, offset, count)
		must(err)
		return []any{result.Status, result.NextBeginOffset, result.MinOffset, result.MaxOffset, bodiesOf(result.GetMessageExts())}
	}
	e.send(topic, "pulled", 20)
	// The original's queue follows its log by a moment.
	e.readAll(topic, 20)
	f["first"] = describe(0, 8)
	f["rest"] = describe(8, 32)
	f["none new"] = describe(20, 32)
	f["far beyond"] = describe(1000, 32)
}

// brokerRestart: a producer and a consumer that run through it lose nothing; a group that was offline meanwhile
// goes on where it left.
func brokerRestart(e *env, f facts) {
	topic, kept := e.name("broker-restart"), e.name("broker-restart-kept")
	r := &received{}
	e.send(topic, "before", 20)
	c := e.consume("broker-restart", topic, r)
	r.awaitExactly("before the restart", bodies("before", 20))
	e.keepOffsets(kept, "before")

	var acknowledged []string
	var stop atomic.Bool
	var load sync.WaitGroup
	load.Add(1)
	go func() {
		defer load.Done()
		for i := 0; !stop.Load(); i++ {
			body := fmt.Sprint("during-", i)
			// A refused message is not acknowledged, so not expected.
			if _, err := e.producer.SendSync(context.Background(), message(topic, "tag", body)); err == nil {
				acknowledged = append(acknowledged, body)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	awaitBrokerRestart()
	await("a message after the restart", func() bool {
		_, err := e.producer.SendSync(context.Background(), message(topic, "tag", "after"))
		return err == nil
	})
	stop.Store(true)
	load.Wait()
	await("all acknowledged messages", func() bool {
		got := map[string]bool{}
		for _, body := range r.bodies() {
			got[body] = true
		}
		return got["after"] && !slices.ContainsFunc(acknowledged, func(body string) bool { return !got[body] })
	})
	must(c.Shutdown())
	e.keepOffsets(kept, "after")
}

func (e *env) keepOffsets(topic, round string) {
	e.send(topic, round, 20)
	r := &received{}
	c := e.consume("broker-restart-kept", topic, r)
	r.awaitExactly(round, bodies(round, 20))
	settle()
	must(c.Shutdown())
}
