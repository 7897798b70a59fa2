// Command grep is a filter that finds the lines of files in the granted
// datasets that match an RE2 regular expression.
//
//	grep [--count] [--max N] [--ignore-case] [--file PATTERN] REGEXP
//
// The answer is one JSON object:
//
//	{"pattern":"…","files":2,"lines":17,"matches":1,
//	 "shown":[{"file":"dataset/path/in/it","line":3,"text":"…"}]}
//
// files and lines are how many were read, matches is how many lines matched.
// shown has the first of them, in the order of file names, and is left out
// with --count. It ends at --max lines or at MaxShownBytes of text. A line is
// what LF or CRLF ends; of one longer than MaxLine the first MaxLine bytes
// are matched and shown, with "truncated":true. Text that is not UTF-8 is
// shown with U+FFFD in its place.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/liop-project/liop/filters/sdk/go/guest"
)

const (
	// DefaultShown and MaxShown are for --max.
	DefaultShown = 100
	MaxShown     = 10_000
	// MaxShownBytes bounds the text of all shown lines.
	MaxShownBytes = 16 << 20
	// MaxLine is how much of a line is looked at.
	MaxLine = 1 << 20
	// MaxPattern bounds the regular expression, in bytes.
	MaxPattern = 4096

	readSize = 256 << 10
)

const usage = "usage: grep [--count] [--max N] [--ignore-case] [--file PATTERN] REGEXP"

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err != nil {
		guest.Fatal(err)
	}
}

func run(args []string, stdout io.Writer) error {
	s, pattern, err := parse(args)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, usage)
	}
	sets, err := guest.Datasets()
	if err != nil {
		return err
	}
	files, err := guest.Files(sets, pattern)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.file(f); err != nil {
			return err
		}
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(s.answer)
}

type answer struct {
	Pattern string   `json:"pattern"`
	Files   int      `json:"files"`
	Lines   int64    `json:"lines"`
	Matches int64    `json:"matches"`
	Shown   *[]match `json:"shown,omitempty"` // nil with --count
}

type match struct {
	File      string `json:"file"`
	Line      int64  `json:"line"` // from 1
	Text      string `json:"text"`
	Truncated bool   `json:"truncated,omitempty"`
}

// A search is under way.
type search struct {
	re     *regexp.Regexp
	max    int // lines to show
	bytes  int // shown so far
	reader *bufio.Reader
	answer answer
}

// parse returns what to search for and the pattern of the files to search.
func parse(args []string) (s *search, files string, err error) {
	flags := flag.NewFlagSet("grep", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	count := flags.Bool("count", false, "")
	shown := flags.Int("max", DefaultShown, "")
	ignoreCase := flags.Bool("ignore-case", false, "")
	flags.StringVar(&files, "file", "", "")
	if err := flags.Parse(args); err != nil {
		return nil, "", err
	}
	if flags.NArg() != 1 {
		return nil, "", errors.New("want one regular expression, after the options")
	}
	if *shown < 0 || *shown > MaxShown {
		return nil, "", fmt.Errorf("--max: want a number from 0 to %d", MaxShown)
	}
	pattern := flags.Arg(0)
	if len(pattern) > MaxPattern {
		return nil, "", fmt.Errorf("the regular expression is longer than %d bytes", MaxPattern)
	}
	expr := pattern
	if *ignoreCase {
		expr = "(?i)" + pattern
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, "", err
	}
	s = &search{
		re:     re,
		max:    *shown,
		reader: bufio.NewReaderSize(nil, readSize),
		answer: answer{Pattern: pattern},
	}
	if !*count {
		s.answer.Shown = &[]match{}
	}
	return s, files, nil
}

func (s *search) file(f guest.File) error {
	in, err := os.Open(f.Path)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Name, err)
	}
	defer in.Close()
	s.reader.Reset(in)
	s.answer.Files++
	for n := int64(1); ; n++ {
		line, truncated, err := nextLine(s.reader)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		s.answer.Lines++
		if !s.re.Match(line) {
			continue
		}
		s.answer.Matches++
		s.show(match{File: f.Name, Line: n, Truncated: truncated}, line)
	}
}

// show keeps a match to show it, if there is room. Once there was none, it
// keeps no other: what is shown has no gaps.
func (s *search) show(m match, line []byte) {
	list := s.answer.Shown
	if list == nil || int64(len(*list)) != s.answer.Matches-1 || len(*list) == s.max || s.bytes+len(line) > MaxShownBytes {
		return
	}
	s.bytes += len(line)
	m.Text = string(line)
	*list = append(*list, m)
}

// nextLine returns the next line without its end, good until the next call, or
// io.EOF if there is none. Of a line longer than MaxLine it returns the start
// and true.
func nextLine(r *bufio.Reader) (line []byte, truncated bool, err error) {
	line, err = r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		const room = MaxLine + 2 // a line of MaxLine bytes may end in CRLF
		long := bytes.Clone(line)
		for err == bufio.ErrBufferFull {
			var more []byte
			more, err = r.ReadSlice('\n')
			long = append(long, more[:min(len(more), room-len(long))]...)
		}
		line = long
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, false, err
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	if len(line) > MaxLine {
		return line[:MaxLine], true, nil
	}
	return line, false, nil
}
