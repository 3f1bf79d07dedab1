// The device-plugin side of a kubelet: takes registrations in the folder that it is given, follows each plugin's list
// of devices, and prints one JSON line for each list. It runs until it is killed.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1beta1 "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type resource struct {
	Resource    string `json:"resource"`
	Capacity    int    `json:"capacity"`
	Allocatable int    `json:"allocatable"`
}

type kubelet struct {
	v1beta1.UnimplementedRegistrationServer
	folder string
	lock   sync.Mutex
	output *json.Encoder
}

func (k *kubelet) Register(_ context.Context, request *v1beta1.RegisterRequest) (*v1beta1.Empty, error) {
	go func() {
		err := k.follow(request.ResourceName, filepath.Join(k.folder, request.Endpoint))
		log.Printf("%s: %v", request.ResourceName, err)
	}()
	return &v1beta1.Empty{}, nil
}

func (k *kubelet) follow(name, socket string) error {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	lists, err := v1beta1.NewDevicePluginClient(connection).ListAndWatch(context.Background(), &v1beta1.Empty{})
	if err != nil {
		return err
	}
	for {
		list, err := lists.Recv()
		if err != nil {
			return err
		}
		seen := resource{Resource: name, Capacity: len(list.Devices)}
		for _, device := range list.Devices {
			if device.Health == v1beta1.Healthy {
				seen.Allocatable++
			}
		}
		k.lock.Lock()
		err = k.output.Encode(seen)
		k.lock.Unlock()
		if err != nil {
			return err
		}
	}
}

func main() {
	folder := os.Args[1]
	listener, err := net.Listen("unix", filepath.Join(folder, "kubelet.sock"))
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	v1beta1.RegisterRegistrationServer(server, &kubelet{folder: folder, output: json.NewEncoder(os.Stdout)})
	log.Fatal(server.Serve(listener))
}
