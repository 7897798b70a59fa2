package filters_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The expected values here were computed from the public tables with awk and
// Python; their description lies beside them.

func TestStatsBirdstrikes(t *testing.T) {
	data := map[string]string{"birds": publicData(t, "birdstrikes.csv")}
	tests := []struct {
		args string
		want []string // "key count sum", in order
	}{
		{"--column|Cost Total $", []string{"- 10000 40545276"}},
		{"--by|Wildlife Size", []string{"Large 744 ", "Medium 4346 ", "Small 4910 "}},
		{"--by|Phase of flight|--column|Cost Total $", []string{
			"Approach 4619 10617324", "Climb 1956 16809261", "Descent 399 697484", "Landing Roll 1405 4522387",
			"Parked 11 2199", "Take-off run 1592 7896621", "Taxi 18 0",
		}},
		{"--by|Phase of flight|--column|Cost Total $|--sort|sum|--top|2", []string{"Climb 1956 16809261", "Approach 4619 10617324"}},
		{"--by|Wildlife Species|--sort|count|--top|6", []string{
			"Unknown bird - small 3572 ", "Unknown bird - medium 3372 ", "Unknown bird or bat 629 ",
			"Unknown bird - large 436 ", "European starling 319 ", "Rock pigeon 232 ",
		}},
		{"--column|Cost Total $|--where|Phase of flight=Climb|--where|Wildlife Size=Large", []string{"- 185 13268664"}},
		{"--by|Effect Amount of damage|--sort|count", []string{
			"None 8939 ", "Minor 549 ", "Substantial 311 ", "Medium 186 ", "C 14 ", "B 1 ",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var got []string
			for _, g := range stats(t, job{args: strings.Split(tt.args, "|"), data: data}).Groups {
				key := "-"
				if g.Key != nil {
					key = *g.Key
				}
				got = append(got, fmt.Sprintf("%s %d %s", key, g.Count, g.Sum))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	// The last column, of which the last cell has no line end behind it.
	a := stats(t, job{args: []string{"--column", "Speed IAS in knots"}, data: data})
	if a.Skipped != 2836 || a.Groups[0].Min != "0" || a.Groups[0].Max != "350" {
		t.Errorf("speed: %+v, want 2836 skipped, 0 to 350", a)
	}
}

func TestStatsWeather(t *testing.T) {
	data := map[string]string{"weather": publicData(t, "seattle-weather.csv")}
	a := stats(t, job{args: []string{"--by", "weather"}, data: data})
	got := map[string]int64{}
	for _, g := range a.Groups {
		got[*g.Key] = g.Count
	}
	if want := map[string]int64{"drizzle": 53, "fog": 101, "rain": 641, "snow": 26, "sun": 640}; !maps.Equal(got, want) || a.Rows != 1461 {
		t.Errorf("%d rows, %v, want 1461 rows, %v", a.Rows, got, want)
	}
	for _, tt := range []struct {
		column, sum, min, max string
	}{
		{"precipitation", "4426", "0", ""},
		{"temp_max", "", "", "35.6"},
		{"temp_min", "", "-7.1", ""},
	} {
		g := stats(t, job{args: []string{"--column", tt.column}, data: data}).Groups[0]
		if tt.sum != "" && g.Sum.String() != tt.sum || tt.min != "" && g.Min.String() != tt.min || tt.max != "" && g.Max.String() != tt.max {
			t.Errorf("%+v, want %+v", g, tt)
		}
	}
}

func TestGrepBirdstrikes(t *testing.T) {
	data := map[string]string{"birds": publicData(t, "birdstrikes.csv")}
	a := grep(t, job{args: []string{"--max", "3", `,Climb,Large,`}, data: data})
	if a.Lines != 10_001 || a.Matches != 185 || len(a.Shown) != 3 {
		t.Errorf("%d lines, %d matches, %d shown, want 10001, 185, 3", a.Lines, a.Matches, len(a.Shown))
	}
}

func TestSchemaPublic(t *testing.T) {
	data := map[string]string{
		"birds": publicData(t, "birdstrikes.csv"), "weather": publicData(t, "seattle-weather.csv"),
	}
	var a schemaAnswer
	decode(t, plain().answer(t, ready(t, "head-schema"), job{data: data}), &a)
	want := []string{
		"birds/birdstrikes.csv 10000 text text text date text text text text text text integer integer integer integer/2836",
		"weather/seattle-weather.csv 1461 date decimal decimal decimal decimal text",
	}
	if got := a.lines(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
