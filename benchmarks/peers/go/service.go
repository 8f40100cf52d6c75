// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"osmo.nvidia.com/protos/listenerpb"
)

// Acknowledges every message at once.
type service struct {
	listenerpb.UnimplementedListenerServiceServer
	recorder *recorder
}

func serviceCommand(flags *flag.FlagSet) func(context.Context) error {
	listen := flags.String("listen", "127.0.0.1:0", "where to listen")
	path := flags.String("record", "", "file of what was received")
	return func(ctx context.Context) error {
		recorder, err := newRecorder(*path)
		if err != nil {
			return err
		}
		return errors.Join(serve(ctx, *listen, &service{recorder: recorder}), recorder.close())
	}
}

func (s *service) ListenerStream(call listenerpb.ListenerService_ListenerStreamServer) error {
	for {
		message, err := call.Recv()
		if err != nil {
			return ended(err)
		}
		at := monotonic()
		if err := call.Send(&listenerpb.AckMessage{AckUuid: message.GetUuid()}); err != nil {
			return err
		}
		if seen, isPod := recordOf(message, at); isPod {
			seen.Acked = time.Now().UnixNano()
			s.recorder.add(seen)
		}
	}
}

// A client that leaves is no failure.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}
