// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"log/slog"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"osmo.nvidia.com/protos/listenerpb"
)

const (
	messageField = "message"
	backendField = "backend"
	// Messages of the tuned operator that may wait for the next pipeline.
	pipelineSize = 1_000
)

// Acknowledges a message when it is in the stream of Redis.
type operator struct {
	listenerpb.UnimplementedListenerServiceServer
	redis  *redis.Client
	stream string
	tuned  bool
}

func operatorCommand(flags *flag.FlagSet) func(context.Context) error {
	listen := flags.String("listen", "127.0.0.1:0", "where to listen")
	address := flags.String("redis", "127.0.0.1:6379", "HOST:PORT of Redis")
	name := flags.String("stream", "operator_messages", "key of the stream")
	tuned := flags.Bool("tuned", false, "append what has arrived in one pipeline")
	return func(ctx context.Context) error {
		client := redis.NewClient(&redis.Options{Addr: *address})
		defer client.Close()
		if err := client.Ping(ctx).Err(); err != nil {
			return err
		}
		return serve(ctx, *listen, &operator{redis: client, stream: *name, tuned: *tuned})
	}
}

// As the deployed queue has it.
var deployedJSON = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}

func (o *operator) ListenerStream(call listenerpb.ListenerService_ListenerStreamServer) error {
	if o.tuned {
		return o.pipelined(call)
	}
	for {
		message, err := call.Recv()
		if err != nil {
			return ended(err)
		}
		text, err := deployedJSON.Marshal(message)
		if err != nil {
			return err
		}
		if err := o.redis.XAdd(call.Context(), o.entry(text)).Err(); err != nil {
			return err
		}
		if err := call.Send(&listenerpb.AckMessage{AckUuid: message.GetUuid()}); err != nil {
			return err
		}
		slog.Info("stored", "uuid", message.GetUuid())
	}
}

func (o *operator) entry(payload []byte) *redis.XAddArgs {
	return &redis.XAddArgs{
		Stream: o.stream, Values: []any{messageField, payload, backendField, backend},
	}
}

// Append all that arrived during the last append with the next one.
func (o *operator) pipelined(call listenerpb.ListenerService_ListenerStreamServer) error {
	arrived := make(chan *listenerpb.ListenerMessage, pipelineSize)
	var failure error
	go func() {
		defer close(arrived)
		for {
			message, err := call.Recv()
			if err != nil {
				failure = ended(err)
				return
			}
			select {
			case arrived <- message:
			case <-call.Context().Done():
				return
			}
		}
	}()
	for first := range arrived {
		messages := collect(first, arrived, pipelineSize)
		pipeline := o.redis.Pipeline()
		for _, message := range messages {
			payload, err := proto.Marshal(message)
			if err != nil {
				return err
			}
			pipeline.XAdd(call.Context(), o.entry(payload))
		}
		if _, err := pipeline.Exec(call.Context()); err != nil {
			return err
		}
		for _, message := range messages {
			if err := call.Send(&listenerpb.AckMessage{AckUuid: message.GetUuid()}); err != nil {
				return err
			}
		}
	}
	return failure
}

// The first, and what else is there already.
func collect[T any](first T, more <-chan T, limit int) []T {
	all := []T{first}
	for len(all) < limit {
		select {
		case next, open := <-more:
			if !open {
				return all
			}
			all = append(all, next)
		default:
			return all
		}
	}
	return all
}
