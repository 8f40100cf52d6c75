// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"osmo.nvidia.com/protos/listenerpb"
)

const (
	backend         = "bench"
	timestampLayout = "2006-01-02T15:04:05.999999"
	keepaliveTime   = 40 * time.Second
	serverKeepalive = 60 * time.Second
	pingTimeout     = 20 * time.Second
)

type stream = listenerpb.ListenerService_ListenerStreamClient

func newMessage(body *listenerpb.UpdatePodBody) *listenerpb.ListenerMessage {
	id := uuid.New()
	return &listenerpb.ListenerMessage{
		Uuid:      hex.EncodeToString(id[:]),
		Timestamp: time.Now().UTC().Format(timestampLayout),
		Body:      &listenerpb.ListenerMessage_UpdatePod{UpdatePod: body},
	}
}

// When a message was made: Unix time in ns, or 0 where it does not say.
func created(message *listenerpb.ListenerMessage) int64 {
	at, err := time.Parse(timestampLayout, message.GetTimestamp())
	if err != nil {
		return 0
	}
	return at.UnixNano()
}

// A stream of reports to the server at target, which ends with ctx or with close.
func connect(ctx context.Context, target string) (call stream, close func() error, err error) {
	connection, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: pingTimeout, PermitWithoutStream: true,
		}))
	if err != nil {
		return nil, nil, err
	}
	named := metadata.AppendToOutgoingContext(ctx, "backend-name", backend)
	call, err = listenerpb.NewListenerServiceClient(connection).ListenerStream(
		named, grpc.WaitForReady(true))
	if err != nil {
		connection.Close()
		return nil, nil, fmt.Errorf("cannot report to %s: %w", target, err)
	}
	return call, connection.Close, nil
}

// Serve until ctx ends, and say where.
func serve(ctx context.Context, address string, service listenerpb.ListenerServiceServer) error {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	server := grpc.NewServer(
		// What they still record is written only when all have ended.
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: serverKeepalive, Timeout: pingTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: pingTimeout, PermitWithoutStream: true,
		}))
	listenerpb.RegisterListenerServiceServer(server, service)
	stopped := context.AfterFunc(ctx, server.Stop)
	defer stopped()
	fmt.Fprintf(os.Stdout, "listening on %s\n", socket.Addr())
	return server.Serve(socket)
}
