// PostHog's Go SDK, driven over standard input: `driver SDK URL TOKEN`, then one line of JSON per call; each is answered as in
// sdk_driver.py.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/posthog/posthog-go"
)

type call struct {
	Do, User, Name, Group string
	Properties            map[string]any
}

func message(c call) posthog.Message {
	switch c.Do {
	case "track":
		return posthog.Capture{DistinctId: c.User, Event: c.Name, Properties: c.Properties}
	case "identify":
		return posthog.Identify{DistinctId: c.User, Properties: c.Properties}
	default:
		return posthog.GroupIdentify{DistinctId: c.User, Type: "company", Key: c.Group, Properties: c.Properties}
	}
}

func main() {
	client, err := posthog.NewWithConfig(os.Args[3], posthog.Config{Endpoint: os.Args[2], BatchSize: 4})
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		if err := client.Enqueue(message(c)); err != nil {
			fmt.Println("raised", err)
		} else {
			fmt.Println("ok")
		}
	}
	if err := client.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Println("end")
}
