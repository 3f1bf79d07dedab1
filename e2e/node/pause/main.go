// The one program in the image that pods of a real node run. It waits until it is ended, as the container that holds
// a pod's namespaces does. With the name of an environment variable, it says what that holds and ends.
package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 {
		// Kubernetes takes a container's last words from here into the Pod's status.
		if err := os.WriteFile("/dev/termination-log", []byte(os.Getenv(os.Args[1])), 0o644); err != nil {
			log.Fatal(err)
		}
		return
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
