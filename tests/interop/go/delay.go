package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// due maps bodies to the time before which nobody may see them, in milliseconds.
type due map[string]int64

func delayLevel(e *env, f facts) {
	topic := e.name("delay-level")
	e.createTopic(topic, 2)
	d := due{}
	for _, body := range bodies("level", 10) {
		d.send(e, message(topic, "tag", body).WithDelayTimeLevel(1), time.Second)
	}
	d.send(e, message(topic, "tag", "nothing").WithDelayTimeLevel(0), 0)
	d.checkTimes(e, topic, f)
}

// This client knows nothing of times, but takes any property.
func delayTimer(e *env, f facts) {
	topic := e.name("delay-timer")
	e.createTopic(topic, 2)
	d := due{}
	at := time.Now().Add(3210 * time.Millisecond)
	d.send(e, timer(topic, "time", "TIMER_DELIVER_MS", at.UnixMilli()), time.Until(at))
	d.send(e, timer(topic, "seconds", "TIMER_DELAY_SEC", 2), 2*time.Second)
	d.send(e, timer(topic, "millis", "TIMER_DELAY_MS", 2345), 2345*time.Millisecond)
	d.send(e, timer(topic, "past", "TIMER_DELIVER_MS", 5), 0)
	d.checkTimes(e, topic, f)
	_, err := e.producer.SendSync(context.Background(), timer(topic, "far", "TIMER_DELAY_SEC", 259_201))
	f["far"] = fmt.Sprint(err)
}

func timer(topic, body, property string, value int64) *primitive.Message {
	m := message(topic, "tag", body)
	m.WithProperty(property, fmt.Sprint(value))
	return m
}

func (d due) send(e *env, m *primitive.Message, delay time.Duration) {
	// Rounded down: a time to the millisecond has passed when the next one begins.
	d[string(m.Body)] = time.Now().Add(delay).UnixMilli() - 1
	result, err := e.producer.SendSync(context.Background(), m)
	must(err)
	equal("status", primitive.SendOK, result.Status)
}

func (d due) checkTimes(e *env, topic string, f facts) {
	for _, m := range e.readAll(topic, len(d)) {
		body := string(m.Body)
		check(m.StoreTimestamp >= d[body], body+" came early")
		f[body] = propertyNames(m)
	}
	equal("messages", len(d), len(f))
}
