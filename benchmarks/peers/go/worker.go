// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"osmo.nvidia.com/protos/listenerpb"
)

const (
	group = "message_workers"
	// How soon it notices that it has to stop.
	block = 250 * time.Millisecond
	// Messages that the tuned worker takes and handles at once.
	concurrency = 100
)

type worker struct {
	redis    *redis.Client
	stream   string
	name     string
	cost     time.Duration
	recorder *recorder
	tuned    bool
}

// An entry of the stream that has been handled.
type handled struct {
	id   string
	seen record
}

func workerCommand(flags *flag.FlagSet) func(context.Context) error {
	address := flags.String("redis", "127.0.0.1:6379", "HOST:PORT of Redis")
	stream := flags.String("stream", "operator_messages", "key of the stream")
	name := flags.String("name", "worker", "of the consumer")
	cost := flags.Float64("cost-ms", 0, "milliseconds that handling a message takes")
	path := flags.String("record", "", "file of what was handled")
	tuned := flags.Bool("tuned", false, "handle messages of different tasks at once")
	return func(ctx context.Context) error {
		recorder, err := newRecorder(*path)
		if err != nil {
			return err
		}
		w := &worker{
			redis: redis.NewClient(&redis.Options{Addr: *address}), stream: *stream, name: *name,
			cost: time.Duration(*cost * float64(time.Millisecond)), recorder: recorder,
			tuned: *tuned,
		}
		defer w.redis.Close()
		err = w.redis.XGroupCreateMkStream(ctx, *stream, group, "0").Err()
		if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return errors.Join(err, recorder.close())
		}
		run := w.oneByOne
		if w.tuned {
			run = w.concurrently
		}
		return errors.Join(run(ctx), recorder.close())
	}
}

func (w *worker) read(ctx context.Context, count int64) ([]redis.XMessage, error) {
	streams, err := w.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: w.name, Streams: []string{w.stream, ">"}, Count: count, Block: block,
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return streams[0].Messages, nil
}

// One entry is read, handled and acknowledged after the other.
func (w *worker) oneByOne(ctx context.Context) error {
	for ctx.Err() == nil {
		entries, err := w.read(ctx, 1)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			message := new(listenerpb.ListenerMessage)
			if err := protojson.Unmarshal(payload(entry), message); err != nil {
				return fmt.Errorf("entry %s: %w", entry.ID, err)
			}
			if err := w.settle(ctx, []handled{w.handle(entry.ID, message)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Entries of different tasks are handled at once, those of one task in order, and what has been
// handled meanwhile is acknowledged together.
func (w *worker) concurrently(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan handled, concurrency)
	slots := make(chan struct{}, concurrency)
	var settling, handling sync.WaitGroup
	settling.Go(func() {
		for first := range done {
			if err := w.settle(ctx, collect(first, done, concurrency)); err != nil {
				cancel(err)
			}
		}
	})
	previous := map[string]<-chan struct{}{}
	for ctx.Err() == nil {
		entries, err := w.read(ctx, concurrency)
		if err != nil {
			cancel(err)
			break
		}
		for _, entry := range entries {
			message := new(listenerpb.ListenerMessage)
			if err := proto.Unmarshal(payload(entry), message); err != nil {
				cancel(fmt.Errorf("entry %s: %w", entry.ID, err))
				break
			}
			key := message.GetUpdatePod().GetWorkflowUuid() + "/" + message.GetUpdatePod().GetTaskUuid()
			before, ended := previous[key], make(chan struct{})
			previous[key] = ended
			slots <- struct{}{}
			handling.Go(func() {
				if before != nil {
					<-before
				}
				done <- w.handle(entry.ID, message)
				close(ended)
				<-slots
			})
		}
		forgetEnded(previous)
	}
	handling.Wait()
	close(done)
	settling.Wait()
	return context.Cause(ctx)
}

func forgetEnded(tasks map[string]<-chan struct{}) {
	for key, ended := range tasks {
		select {
		case <-ended:
			delete(tasks, key)
		default:
		}
	}
}

func payload(entry redis.XMessage) []byte {
	text, _ := entry.Values[messageField].(string) // Anything else does not parse.
	return []byte(text)
}

func (w *worker) handle(id string, message *listenerpb.ListenerMessage) handled {
	time.Sleep(w.cost)
	seen, _ := recordOf(message, monotonic())
	seen.Worker = w.name
	return handled{id, seen}
}

func (w *worker) settle(ctx context.Context, all []handled) error {
	// What was handled is acknowledged, also when the worker is told to stop.
	ctx = context.WithoutCancel(ctx)
	ids := make([]string, len(all))
	for number, each := range all {
		ids[number] = each.id
	}
	if !w.tuned {
		if err := w.redis.XAck(ctx, w.stream, group, ids...).Err(); err != nil {
			return err
		}
		if err := w.redis.XDel(ctx, w.stream, ids...).Err(); err != nil {
			return err
		}
	} else {
		pipeline := w.redis.Pipeline()
		pipeline.XAck(ctx, w.stream, group, ids...)
		pipeline.XDel(ctx, w.stream, ids...)
		if _, err := pipeline.Exec(ctx); err != nil {
			return err
		}
	}
	at := time.Now().UnixNano()
	for _, each := range all {
		each.seen.Done = at
		w.recorder.add(each.seen)
	}
	return nil
}
