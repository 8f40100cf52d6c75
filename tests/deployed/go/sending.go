// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"osmo.nvidia.com/protos/listenerpb"
)

// What was sent and is not acknowledged.
type window struct {
	sync.Mutex
	messages map[string]*listenerpb.ListenerMessage
	slots    chan struct{}
	strange  int
}

func (w *window) add(message *listenerpb.ListenerMessage) {
	w.Lock()
	defer w.Unlock()
	w.messages[message.Uuid] = message
}

func (w *window) acknowledge(uuid string) int {
	w.Lock()
	defer w.Unlock()
	if _, there := w.messages[uuid]; there {
		delete(w.messages, uuid)
		<-w.slots
	} else {
		w.strange++
	}
	return len(w.messages)
}

func (w *window) all() []*listenerpb.ListenerMessage {
	w.Lock()
	defer w.Unlock()
	all := make([]*listenerpb.ListenerMessage, 0, len(w.messages))
	for _, message := range w.messages { // In the order of a map: any.
		all = append(all, message)
	}
	return all
}

// Until every message is acknowledged, over as many connections as it takes.
func stream(ctx context.Context, client listenerpb.ListenerServiceClient, o options) error {
	reports := make([]*listenerpb.ListenerMessage, o.messages)
	for number := range reports {
		reports[number] = report(number, o.kinds)
	}
	open := &window{
		messages: map[string]*listenerpb.ListenerMessage{}, slots: make(chan struct{}, o.window),
	}
	next, connects, resent, acknowledged := 0, 0, 0, 0
	started := time.Now()
	for acknowledged < o.messages {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d messages acknowledged", acknowledged, o.messages)
		}
		call, err := client.ListenerStream(ctx, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		connects++
		again := open.all()
		resent += len(again)
		ended := make(chan int, 1)
		go func() { ended <- readAcks(call, open, o, acknowledged) }()
		next += send(call, again, reports[next:], open)
		call.CloseSend()
		acknowledged = <-ended
		if acknowledged < o.messages {
			time.Sleep(o.pause)
		}
	}
	say(map[string]any{
		"event": "done", "acknowledged": acknowledged, "connects": connects, "resent": resent,
		"strange": open.strange, "seconds": time.Since(started).Seconds(),
	})
	if open.strange > resent {
		return fmt.Errorf("%d acknowledgements of nothing", open.strange)
	}
	return nil
}

// Sends until all is sent or the connection breaks; how many of the fresh ones went into the window.
func send(call listenerpb.ListenerService_ListenerStreamClient, again,
	fresh []*listenerpb.ListenerMessage, open *window) int {
	for _, message := range again {
		if call.Send(message) != nil {
			return 0
		}
	}
	for number, message := range fresh {
		select {
		case open.slots <- struct{}{}:
		case <-call.Context().Done():
			return number
		}
		open.add(message)
		if call.Send(message) != nil {
			return number + 1
		}
	}
	return len(fresh)
}

// Reads until the connection ends; how many messages are acknowledged by then.
func readAcks(call listenerpb.ListenerService_ListenerStreamClient, open *window, o options,
	acknowledged int) int {
	for {
		ack, err := call.Recv()
		if err != nil {
			if err == io.EOF {
				err = nil // status.Convert takes it for an unknown error.
			}
			code := status.Convert(err)
			say(map[string]any{
				"event": "ended", "code": code.Code().String(), "message": code.Message(),
			})
			return acknowledged
		}
		before := open.strange
		open.acknowledge(ack.AckUuid)
		if open.strange == before {
			acknowledged++
		}
		if acknowledged == 1 {
			say(map[string]any{"event": "acknowledged", "uuid": ack.AckUuid})
		}
	}
}

// Each message in a call of its own, some of them at once.
func unary(ctx context.Context, client listenerpb.ListenerServiceClient, o options) error {
	numbers := make(chan int)
	failures := make(chan error, o.parallel)
	var working sync.WaitGroup
	started := time.Now()
	for range o.parallel {
		working.Go(func() {
			for number := range numbers {
				message := report(number, o.kinds)
				ack, err := client.SendListenerMessage(ctx, message, grpc.WaitForReady(true))
				if err == nil && ack.AckUuid != message.Uuid {
					err = fmt.Errorf("sent %s, acknowledged %s", message.Uuid, ack.AckUuid)
				}
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	for number := range o.messages {
		select {
		case numbers <- number:
		case err := <-failures:
			return err
		}
	}
	close(numbers)
	working.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	say(map[string]any{
		"event": "done", "acknowledged": o.messages, "seconds": time.Since(started).Seconds(),
	})
	return nil
}
