// Command load sends reviews as the API server does: Go's net/http, HTTP/1.1 over TLS, connections kept alive.
//
// Closed loop (no -rate): every connection sends its next review when it has its answer. Open loop (-rate): reviews
// are due at fixed moments whatever the server does, and latency counts from the moment that a review was due, so that a
// server which stalls cannot hide the reviews that waited (coordinated omission). The result is one JSON line.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Of USER_HZ: what /proc counts processor time in, on every Linux that Go runs on.
const ticksPerSecond = 100

// How long an open loop waits for answers after the last review was due.
const grace = 2 * time.Second

type result struct {
	Seconds    float64            `json:"seconds"`
	Answered   int                `json:"answered"`
	Failed     int                `json:"failed"`
	Unanswered int                `json:"unanswered"`
	FirstError string             `json:"firstError"`
	CPUSeconds float64            `json:"cpuSeconds"`
	Latency    map[string]float64 `json:"latencyMilliseconds"`
	Go         string             `json:"go"`
}

type sender struct {
	client *http.Client
	url    string
	bodies [][]byte
	next   atomic.Int64
}

func (s *sender) send(ctx context.Context) error {
	body := s.bodies[int(s.next.Add(1))%len(s.bodies)]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"allowed":true`)) {
		return fmt.Errorf("HTTP %d: %.200s", answer.StatusCode, text)
	}
	return nil
}

// tally is what one connection saw.
type tally struct {
	latencies  []time.Duration
	failed     int
	unanswered int
	first      error
}

func (t *tally) note(took time.Duration, err error) {
	switch {
	case err == nil:
		t.latencies = append(t.latencies, took)
	case errors.Is(err, context.DeadlineExceeded):
		t.unanswered++
	default:
		t.failed++
		if t.first == nil {
			t.first = err
		}
	}
}

func each(connections int, work func(*tally)) []tally {
	tallies := make([]tally, connections)
	var group sync.WaitGroup
	for index := range tallies {
		group.Go(func() { work(&tallies[index]) })
	}
	group.Wait()
	return tallies
}

func (s *sender) closed(connections int, duration time.Duration) []tally {
	end := time.Now().Add(duration)
	return each(connections, func(t *tally) {
		for begin := time.Now(); begin.Before(end); begin = time.Now() {
			err := s.send(context.Background())
			t.note(time.Since(begin), err)
		}
	})
}

func (s *sender) open(connections int, rate float64, duration time.Duration) []tally {
	total := int(rate * duration.Seconds())
	due := make(chan time.Time, total)
	begin := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(duration+grace))
	defer cancel()
	go func() {
		defer close(due)
		for index := range total {
			moment := begin.Add(time.Duration(float64(index) / rate * float64(time.Second)))
			time.Sleep(time.Until(moment))
			due <- moment
		}
	}()
	return each(connections, func(t *tally) {
		for moment := range due {
			if ctx.Err() != nil {
				t.note(0, ctx.Err())
				continue
			}
			err := s.send(ctx)
			t.note(time.Since(moment), err)
		}
	})
}

// cpu returns the processor time that a process has used, all its threads together.
func cpu(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		log.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	ticks := 0
	for _, field := range fields[11:13] {
		number, err := strconv.Atoi(field)
		if err != nil {
			log.Fatal(err)
		}
		ticks += number
	}
	return float64(ticks) / ticksPerSecond
}

func client(authority string, connections int) *http.Client {
	trusted := x509.NewCertPool()
	pem, err := os.ReadFile(authority)
	if err != nil || !trusted.AppendCertsFromPEM(pem) {
		log.Fatalf("%s: no certificate: %v", authority, err)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: trusted, NextProtos: []string{"http/1.1"}},
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}}
}

func summary(tallies []tally, took time.Duration, used float64) result {
	found := result{Seconds: took.Seconds(), CPUSeconds: used, Go: runtime.Version(), Latency: map[string]float64{}}
	var all []time.Duration
	for _, t := range tallies {
		all = append(all, t.latencies...)
		found.Failed += t.failed
		found.Unanswered += t.unanswered
		if t.first != nil && found.FirstError == "" {
			found.FirstError = t.first.Error()
		}
	}
	found.Answered = len(all)
	slices.Sort(all)
	for name, part := range map[string]float64{"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1} {
		if len(all) > 0 {
			at := all[min(len(all)-1, int(part*float64(len(all))))]
			found.Latency[name] = float64(at) / float64(time.Millisecond)
		}
	}
	return found
}

func main() {
	url := flag.String("url", "", "where to send to")
	authority := flag.String("authority", "", "PEM file of whom to trust")
	bodies := flag.String("bodies", "", "glob of files to send in turn")
	connections := flag.Int("connections", 16, "how many at once")
	rate := flag.Float64("rate", 0, "reviews a second; 0: as many as get answered")
	duration := flag.Duration("for", 2*time.Second, "how long")
	warmup := flag.Duration("warm-up", 300*time.Millisecond, "how long before that, uncounted")
	pid := flag.Int("pid", 0, "the server's process, whose processor time is read")
	flag.Parse()
	log.SetFlags(0)
	files, err := filepath.Glob(*bodies)
	if err != nil || len(files) == 0 {
		log.Fatalf("%s: no files: %v", *bodies, err)
	}
	s := &sender{client: client(*authority, *connections), url: *url}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		s.bodies = append(s.bodies, body)
	}
	s.closed(*connections, *warmup)
	runtime.GC()
	before, begin := cpu(*pid), time.Now()
	var tallies []tally
	if *rate > 0 {
		tallies = s.open(*connections, *rate, *duration)
	} else {
		tallies = s.closed(*connections, *duration)
	}
	took := time.Since(begin)
	if err := json.NewEncoder(os.Stdout).Encode(summary(tallies, took, cpu(*pid)-before)); err != nil {
		log.Fatal(err)
	}
}
