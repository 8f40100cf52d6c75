// SPDX-License-Identifier: Apache-2.0

// Go code of the wire contract that deployed listeners speak: for those who speak it in Go.
package protos

// Needs protoc, protoc-gen-go and protoc-gen-go-grpc on PATH.
//go:generate protoc --proto_path=.. --go_out=listenerpb --go_opt=paths=import,module=osmo.nvidia.com/protos/listenerpb,Mosmo_protos/listener_service.proto=osmo.nvidia.com/protos/listenerpb --go-grpc_out=listenerpb --go-grpc_opt=paths=import,module=osmo.nvidia.com/protos/listenerpb,Mosmo_protos/listener_service.proto=osmo.nvidia.com/protos/listenerpb osmo_protos/listener_service.proto
