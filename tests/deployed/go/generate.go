// SPDX-License-Identifier: Apache-2.0

package main

// Needs protoc, protoc-gen-go and protoc-gen-go-grpc on PATH.
//go:generate protoc --proto_path=../../../protos --go_out=listenerpb --go_opt=paths=import,module=deployed/listenerpb,Mosmo_protos/listener_service.proto=deployed/listenerpb --go-grpc_out=listenerpb --go-grpc_opt=paths=import,module=deployed/listenerpb,Mosmo_protos/listener_service.proto=deployed/listenerpb osmo_protos/listener_service.proto
