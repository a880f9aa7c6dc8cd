package clients

import (
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/queues"
)

// TestCloudflareGoQueues walks a queue's life with Cloudflare's own Go SDK.
func TestCloudflareGoQueues(t *testing.T) {
	n := startNode(t)
	c, ctx, account := sdk(n), t.Context(), cloudflare.F(n.AccountID)
	q, err := c.Queues.New(ctx, queues.QueueNewParams{AccountID: account, QueueName: cloudflare.F("example-queue")})
	if err != nil || q.QueueName != "example-queue" || q.Settings.MessageRetentionPeriod != 345600 {
		t.Fatalf("New() = %+v, %v", q, err)
	}
	if _, err := c.Queues.New(ctx, queues.QueueNewParams{AccountID: account, QueueName: cloudflare.F("example-queue")}); err == nil || !strings.Contains(err.Error(), "11009") {
		t.Errorf("New() of a queue that exists = %v, want error 11009", err)
	}
	edited, err := c.Queues.Edit(ctx, q.QueueID, queues.QueueEditParams{AccountID: account, Queue: queues.QueueParam{
		Settings: cloudflare.F(queues.QueueSettingsParam{DeliveryDelay: cloudflare.F(5.0), MessageRetentionPeriod: cloudflare.F(86400.0)}),
	}})
	if err != nil || edited.Settings.DeliveryDelay != 5 || edited.Settings.MessageRetentionPeriod != 86400 {
		t.Errorf("Edit() = %+v, %v", edited, err)
	}
	replaced, err := c.Queues.Update(ctx, q.QueueID, queues.QueueUpdateParams{AccountID: account, Queue: queues.QueueParam{QueueName: cloudflare.F("example-queue")}})
	if err != nil || replaced.Settings.DeliveryDelay != 0 {
		t.Errorf("Update() = %+v, %v", replaced, err)
	}
	consumer, err := c.Queues.Consumers.New(ctx, q.QueueID, queues.ConsumerNewParams{AccountID: account, Body: queues.ConsumerNewParamsBodyMqHTTPConsumerRequest{
		Type:     cloudflare.F(queues.ConsumerNewParamsBodyMqHTTPConsumerRequestTypeHTTPPull),
		Settings: cloudflare.F(queues.ConsumerNewParamsBodyMqHTTPConsumerRequestSettings{BatchSize: cloudflare.F(50.0), MaxRetries: cloudflare.F(3.0), VisibilityTimeoutMs: cloudflare.F(6000.0)}),
	}})
	if err != nil || consumer.Type != "http_pull" {
		t.Fatalf("Consumers.New() = %+v, %v", consumer, err)
	}
	listed, err := c.Queues.List(ctx, queues.QueueListParams{AccountID: account})
	if err != nil || len(listed.Result) != 1 || listed.Result[0].ConsumersTotalCount != 1 || listed.Result[0].Consumers[0].ConsumerID != consumer.ConsumerID {
		t.Errorf("List() = %+v, %v", listed, err)
	}
	sdkMessages(t, n, c, q.QueueID)
	if _, err := c.Queues.Consumers.Delete(ctx, q.QueueID, consumer.ConsumerID, queues.ConsumerDeleteParams{AccountID: account}); err != nil {
		t.Error(err)
	}
	if _, err := c.Queues.Delete(ctx, q.QueueID, queues.QueueDeleteParams{AccountID: account}); err != nil {
		t.Error(err)
	}
	if _, err := c.Queues.Get(ctx, q.QueueID, queues.QueueGetParams{AccountID: account}); err == nil || !strings.Contains(err.Error(), "11000") {
		t.Errorf("Get() of a deleted queue = %v, want error 11000", err)
	}
}

func sdkMessages(t *testing.T, n *node, c *cloudflare.Client, id string) {
	ctx, account := t.Context(), cloudflare.F(n.AccountID)
	sent, err := c.Queues.Messages.Push(ctx, id, queues.MessagePushParams{AccountID: account, Body: queues.MessagePushParamsBodyMqQueueMessageText{
		Body: cloudflare.F("one"), ContentType: cloudflare.F(queues.MessagePushParamsBodyMqQueueMessageTextContentTypeText), DelaySeconds: cloudflare.F(0.0),
	}})
	if err != nil || sent.Metadata.Metrics.BacklogCount != 1 || sent.Metadata.Metrics.OldestMessageTimestampMs == 0 {
		t.Errorf("Push() = %+v, %v", sent, err)
	}
	if _, err := c.Queues.Messages.BulkPush(ctx, id, queues.MessageBulkPushParams{AccountID: account, DelaySeconds: cloudflare.F(0.0), Messages: cloudflare.F([]queues.MessageBulkPushParamsMessageUnion{
		queues.MessageBulkPushParamsMessagesMqQueueMessageText{Body: cloudflare.F("two"), ContentType: cloudflare.F(queues.MessageBulkPushParamsMessagesMqQueueMessageTextContentTypeText)},
	})}); err != nil {
		t.Errorf("BulkPush() = %v", err)
	}
	pulled, err := c.Queues.Messages.Pull(ctx, id, queues.MessagePullParams{AccountID: account, BatchSize: cloudflare.F(50.0), VisibilityTimeoutMs: cloudflare.F(60000.0)})
	if err != nil || len(pulled.Messages) != 2 || pulled.Messages[0].Body != "one" {
		t.Fatalf("Pull() = %+v, %v", pulled, err)
	}
	done, err := c.Queues.Messages.Ack(ctx, id, queues.MessageAckParams{
		AccountID: account,
		Acks:      cloudflare.F([]queues.MessageAckParamsAck{{LeaseID: cloudflare.F(pulled.Messages[0].LeaseID)}}),
		Retries:   cloudflare.F([]queues.MessageAckParamsRetry{{LeaseID: cloudflare.F(pulled.Messages[1].LeaseID), DelaySeconds: cloudflare.F(10.0)}}),
	})
	if err != nil || done.AckCount != 1 || done.RetryCount != 1 {
		t.Errorf("Ack() = %+v, %v", done, err)
	}
	if _, err := c.Queues.Purge.Start(ctx, id, queues.PurgeStartParams{AccountID: account, DeleteMessagesPermanently: cloudflare.F(true)}); err != nil {
		t.Errorf("Purge.Start() = %v", err)
	}
	if status, err := c.Queues.Purge.Status(ctx, id, queues.PurgeStatusParams{AccountID: account}); err != nil || status.StartedAt == "" || status.Completed == "" {
		t.Errorf("Purge.Status() = %+v, %v", status, err)
	}
}
