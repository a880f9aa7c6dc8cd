package observe_test

import (
	"testing"

	"selvage/foundation/observe"
)

func TestWatchersGetTheirKinds(t *testing.T) {
	var events observe.Events
	if events.Watched() || events.Watched("request") {
		t.Error("Watched() without watchers = true")
	}
	requests, all := events.Watch(1, "request"), events.Watch(3)
	defer all.Close()
	if !events.Watched("query") {
		t.Error(`Watched("query") = false with a watcher of everything`)
	}
	for _, kind := range []string{"query", "request", "request"} {
		events.Publish(observe.Event{Kind: kind})
	}
	if got := (<-requests.C).Kind; got != "request" {
		t.Errorf("a watcher of requests got %q first", got)
	}
	if requests.Lost() != 1 || all.Lost() != 0 || events.Dropped() != 1 || len(all.C) != 3 {
		t.Errorf("lost %d and %d, dropped %d, %d waiting; want 1, 0, 1, 3", requests.Lost(), all.Lost(), events.Dropped(), len(all.C))
	}
	all.Close()
	if events.Watched("query") {
		t.Error(`Watched("query") = true with only a watcher of requests`)
	}
	requests.Close()
	if events.Watched() {
		t.Error("Watched() = true after the last watcher closed")
	}
}

func TestNilEventsDropEverything(t *testing.T) {
	var events *observe.Events
	events.Publish(observe.Event{Kind: "request"})
	if events.Watched() {
		t.Error("nil Events are watched")
	}
}
