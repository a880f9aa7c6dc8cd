package main

import (
	"errors"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// theirs is a work queue of a JetStream server in this process that syncs each message.
type theirs struct {
	server *server.Server
	conn   *nats.Conn
	js     nats.JetStreamContext
	sub    *nats.Subscription
}

func openJetStream(dir string) (broker, error) {
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, SyncAlways: true, DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the server did not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, err
	}
	js, err := conn.JetStream()
	if err != nil {
		return nil, err
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "Q", Subjects: []string{"q"}, Retention: nats.WorkQueuePolicy, Storage: nats.FileStorage, Replicas: 1}); err != nil {
		return nil, err
	}
	sub, err := js.PullSubscribe("q", "workers", nats.AckExplicit(), nats.MaxAckPending(100_000))
	return &theirs{s, conn, js, sub}, err
}

func (t *theirs) send(body []byte) error {
	_, err := t.js.Publish("q", body)
	return err
}

// work acknowledges as JetStream's clients do by default, and waits until the server has read it all: that
// is less than what ours promises, for the server writes acknowledgements down later.
func (t *theirs) work(n int) (int, error) {
	messages, err := t.sub.Fetch(n, nats.MaxWait(time.Second))
	if errors.Is(err, nats.ErrTimeout) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if err := m.Ack(); err != nil {
			return 0, err
		}
	}
	return len(messages), t.conn.Flush()
}

func (t *theirs) close() {
	t.conn.Close()
	t.server.Shutdown()
	t.server.WaitForShutdown()
}
