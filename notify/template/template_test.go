package template_test

import (
	"strings"
	"testing"

	"golang.org/x/text/language"

	"activityfeed/notify/template"
	pb "activityfeed/proto/activityfeed/v1"
)

const (
	post    = pb.NotificationType_NOTIFICATION_TYPE_POST
	mention = pb.NotificationType_NOTIFICATION_TYPE_MENTION
	follow  = pb.NotificationType_NOTIFICATION_TYPE_FOLLOW
)

func TestText(t *testing.T) {
	t.Parallel()
	c, err := template.New()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		locale      string
		s           template.Subject
		title, body string
	}{
		"one post":           {"en", template.Subject{Kind: post, Actor: "ann", Actors: 1, Events: 1, Unread: 1}, "ann posted a photo", ""},
		"a burst":            {"en", template.Subject{Kind: post, Actor: "ann", Actors: 1, Events: 12, Unread: 40}, "ann posted 12 photos", "40 unread"},
		"thousands":          {"en", template.Subject{Kind: post, Actor: "ann", Events: 1200}, "ann posted 1,200 photos", ""},
		"a mention":          {"en", template.Subject{Kind: mention, Actor: "ann", Actors: 1, Events: 1}, "ann mentioned you", ""},
		"one follower":       {"en", template.Subject{Kind: follow, Actor: "ann", Actors: 1, Events: 1}, "ann follows you", ""},
		"and one":            {"en", template.Subject{Kind: follow, Actor: "ann", Actors: 2, Events: 2}, "ann and 1 other follow you", ""},
		"and three":          {"en", template.Subject{Kind: follow, Actor: "ann", Actors: 4, Events: 4}, "ann and 3 others follow you", ""},
		"a kind of tomorrow": {"en", template.Subject{Kind: 99, Actor: "ann"}, "You have a new notification", ""},
		"no language":        {"und", template.Subject{Kind: mention, Actor: "ann"}, "ann mentioned you", ""},
		"one we do not have": {"ja", template.Subject{Kind: mention, Actor: "ann"}, "ann mentioned you", ""},
		"German":             {"de", template.Subject{Kind: post, Actor: "ann", Events: 3, Unread: 1200}, "ann hat 3 Fotos gepostet", "1.200 ungelesen"},
		"Austria":            {"de-AT", template.Subject{Kind: follow, Actor: "ann", Actors: 2}, "ann und 1 weitere Person folgen dir", ""},
		"Mexico":             {"es-MX", template.Subject{Kind: follow, Actor: "ann", Actors: 6}, "ann y 5 personas más te siguen", ""},
		"Russian 1":          {"ru", template.Subject{Kind: mention, Actor: "ann", Events: 21}, "ann упоминает вас 21 раз", ""},
		"Russian 3":          {"ru", template.Subject{Kind: mention, Actor: "ann", Events: 3}, "ann упоминает вас 3 раза", ""},
		"Russian 5":          {"ru", template.Subject{Kind: mention, Actor: "ann", Events: 5}, "ann упоминает вас 5 раз", ""},
		"a name is no verb":  {"en", template.Subject{Kind: mention, Actor: "%d%s"}, "%d%s mentioned you", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			title, body := c.Text(language.Make(tt.locale), tt.s)
			if title != tt.title || body != tt.body {
				t.Errorf("Text = %q, %q, want %q, %q", title, body, tt.title, tt.body)
			}
		})
	}
}

// No language lacks a text: it would show the key.
func TestEveryLanguageHasEveryText(t *testing.T) {
	t.Parallel()
	c, err := template.New()
	if err != nil {
		t.Fatal(err)
	}
	english := map[string]bool{}
	for _, locale := range []string{"en", "de", "es", "ru"} {
		tag := language.Make(locale)
		testTitle, testBody := c.Test(tag)
		all := []string{testTitle, testBody}
		for _, kind := range []pb.NotificationType{post, mention, follow, 99} {
			for n := 1; n <= 5; n++ {
				title, body := c.Text(tag, template.Subject{Kind: kind, Actor: "ann", Actors: n, Events: n, Unread: 7})
				all = append(all, title, body)
			}
		}
		for _, text := range all {
			if text == "" || strings.Contains(text, "%!") || (locale != "en" && english[text]) {
				t.Errorf("%s: %q", locale, text)
			}
			english[text] = english[text] || locale == "en"
		}
	}
}
