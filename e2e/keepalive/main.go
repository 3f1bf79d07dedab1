// Command keepalive calls a webhook as the API server does, at a steady pace, until its standard input ends.
//
// As there (k8s.io/apiserver/pkg/util/webhook): HTTP/1.1 over TLS, connections kept alive, a POST that fails is not
// sent again, and what is trusted comes with the client, so that other authorities mean another client whose
// connections are new, while those that are open serve on. Every tenth call opens a connection of its own, as a burst
// would. Each time that the file of authorities is taken over, a line says so; the last line is the result, as JSON.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type result struct {
	Answered    int      `json:"answered"`
	Failed      int      `json:"failed"`
	Errors      []string `json:"errors"`
	Connections int      `json:"connections"`
	Reused      int      `json:"reused"`
	Leaves      int      `json:"leaves"`
}

type clients struct{ kept, fresh *http.Client }

type caller struct {
	url, name, authorities string
	connections            int
	body                   []byte
	current                atomic.Pointer[clients]

	lock   sync.Mutex
	found  result
	leaves map[string]bool
}

func main() {
	caller := &caller{leaves: map[string]bool{}}
	flag.StringVar(&caller.url, "url", "", "what to call")
	flag.StringVar(&caller.name, "server-name", "", "whose certificate it must show")
	flag.StringVar(&caller.authorities, "authorities", "", "file of those that are trusted, looked at all the time")
	flag.IntVar(&caller.connections, "connections", 8, "how many callers")
	review := flag.String("review", "", "file of the body")
	pause := flag.Duration("pause", 100*time.Millisecond, "of each caller, from one call to the next")
	flag.Parse()
	body, err := os.ReadFile(*review)
	if err != nil {
		log.Fatal(err)
	}
	caller.body = body
	if err := caller.run(*pause); err != nil {
		log.Fatal(err)
	}
}

func (c *caller) run(pause time.Duration) error {
	trusted, err := c.trust(nil)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	var group sync.WaitGroup
	for range c.connections {
		group.Go(func() { c.call(pause, stop) })
	}
	for ended := false; !ended; {
		select {
		case <-stop:
			ended = true
		case <-time.After(20 * time.Millisecond):
			if trusted, err = c.trust(trusted); err != nil {
				return err
			}
		}
	}
	group.Wait()
	c.found.Leaves = len(c.leaves)
	return json.NewEncoder(os.Stdout).Encode(c.found)
}

// trust makes new clients when the file is not what was taken over last.
func (c *caller) trust(before []byte) ([]byte, error) {
	pem, err := os.ReadFile(c.authorities)
	if err != nil || bytes.Equal(pem, before) {
		return before, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.authorities)
	}
	client := func(keep bool) *http.Client {
		return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: c.name, NextProtos: []string{"http/1.1"}},
			MaxIdleConnsPerHost: c.connections,
			IdleConnTimeout:     90 * time.Second,
			DisableKeepAlives:   !keep,
		}}
	}
	c.current.Store(&clients{kept: client(true), fresh: client(false)})
	_, err = fmt.Println("trusting")
	return pem, err
}

func (c *caller) call(pause time.Duration, stop <-chan struct{}) {
	for turn := 1; ; turn++ {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		client := c.current.Load().kept
		if turn%10 == 0 {
			client = c.current.Load().fresh
		}
		c.note(c.send(client))
	}
}

func (c *caller) send(client *http.Client) error {
	request, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(c.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), c.tracer())))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"allowed":true`))) {
		err = fmt.Errorf("HTTP %d: %.200s", answer.StatusCode, text)
	}
	return err
}

func (c *caller) tracer() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			c.lock.Lock()
			defer c.lock.Unlock()
			if got.Reused {
				c.found.Reused++
			} else {
				c.found.Connections++
			}
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			c.lock.Lock()
			defer c.lock.Unlock()
			if err == nil {
				c.leaves[state.PeerCertificates[0].SerialNumber.String()] = true
			}
		},
	}
}

func (c *caller) note(err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if err == nil {
		c.found.Answered++
		return
	}
	c.found.Failed++
	if len(c.found.Errors) < 5 {
		c.found.Errors = append(c.found.Errors, err.Error())
	}
}
