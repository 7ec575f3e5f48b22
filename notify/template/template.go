// Package template words notifications in a person's language.
//
// Texts name people by their user ids: that is all that this system knows of them,
// and it is what the app's own inbox shows. Plurals follow CLDR by way of x/text.
package template

import (
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"

	pb "activityfeed/proto/activityfeed/v1"
)

// The keys of the texts.
const (
	keyPost         = "post"
	keyPosts        = "posts"
	keyMention      = "mention"
	keyMentions     = "mentions"
	keyFollow       = "follow"
	keyFollows      = "follows"
	keyTest         = "test"
	keyTestBody     = "test body"
	keyUnread       = "unread"
	fallbackMessage = "notification"
)

// texts are all languages. %[1]s is the newest actor, %[2]d how many there are of
// what is counted: posts, mentions, or followers besides the named one.
var texts = map[language.Tag]map[string][]catalog.Message{
	language.English: {
		keyPost:         {catalog.String("%[1]s posted a photo")},
		keyPosts:        {plural.Selectf(2, "%d", "=1", "%[1]s posted a photo", "other", "%[1]s posted %[2]d photos")},
		keyMention:      {catalog.String("%[1]s mentioned you")},
		keyMentions:     {plural.Selectf(2, "%d", "=1", "%[1]s mentioned you", "other", "%[1]s mentioned you %[2]d times")},
		keyFollow:       {catalog.String("%[1]s follows you")},
		keyFollows:      {plural.Selectf(2, "%d", "=1", "%[1]s and 1 other follow you", "other", "%[1]s and %[2]d others follow you")},
		keyTest:         {catalog.String("Test notification")},
		keyTestBody:     {catalog.String("This device is told of news.")},
		keyUnread:       {plural.Selectf(1, "%d", "=1", "1 unread", "other", "%[1]d unread")},
		fallbackMessage: {catalog.String("You have a new notification")},
	},
	language.German: {
		keyPost:         {catalog.String("%[1]s hat ein Foto gepostet")},
		keyPosts:        {plural.Selectf(2, "%d", "=1", "%[1]s hat ein Foto gepostet", "other", "%[1]s hat %[2]d Fotos gepostet")},
		keyMention:      {catalog.String("%[1]s hat dich erwähnt")},
		keyMentions:     {plural.Selectf(2, "%d", "=1", "%[1]s hat dich erwähnt", "other", "%[1]s hat dich %[2]d-mal erwähnt")},
		keyFollow:       {catalog.String("%[1]s folgt dir")},
		keyFollows:      {plural.Selectf(2, "%d", "=1", "%[1]s und 1 weitere Person folgen dir", "other", "%[1]s und %[2]d weitere Personen folgen dir")},
		keyTest:         {catalog.String("Testbenachrichtigung")},
		keyTestBody:     {catalog.String("Dieses Gerät wird benachrichtigt.")},
		keyUnread:       {plural.Selectf(1, "%d", "=1", "1 ungelesen", "other", "%[1]d ungelesen")},
		fallbackMessage: {catalog.String("Du hast eine neue Benachrichtigung")},
	},
	language.Spanish: {
		keyPost:         {catalog.String("%[1]s publicó una foto")},
		keyPosts:        {plural.Selectf(2, "%d", "=1", "%[1]s publicó una foto", "other", "%[1]s publicó %[2]d fotos")},
		keyMention:      {catalog.String("%[1]s te mencionó")},
		keyMentions:     {plural.Selectf(2, "%d", "=1", "%[1]s te mencionó", "other", "%[1]s te mencionó %[2]d veces")},
		keyFollow:       {catalog.String("%[1]s te sigue")},
		keyFollows:      {plural.Selectf(2, "%d", "=1", "%[1]s y 1 persona más te siguen", "other", "%[1]s y %[2]d personas más te siguen")},
		keyTest:         {catalog.String("Notificación de prueba")},
		keyTestBody:     {catalog.String("Este dispositivo recibe avisos.")},
		keyUnread:       {plural.Selectf(1, "%d", "=1", "1 sin leer", "other", "%[1]d sin leer")},
		fallbackMessage: {catalog.String("Tienes una notificación nueva")},
	},
	language.Russian: {
		keyPost:         {catalog.String("%[1]s: новое фото")},
		keyPosts:        {plural.Selectf(2, "%d", "one", "%[1]s: %[2]d новое фото", "other", "%[1]s: %[2]d новых фото")},
		keyMention:      {catalog.String("%[1]s упоминает вас")},
		keyMentions:     {plural.Selectf(2, "%d", "one", "%[1]s упоминает вас %[2]d раз", "few", "%[1]s упоминает вас %[2]d раза", "other", "%[1]s упоминает вас %[2]d раз")},
		keyFollow:       {catalog.String("%[1]s подписывается на вас")},
		keyFollows:      {plural.Selectf(2, "%d", "one", "%[1]s и ещё %[2]d человек подписаны на вас", "few", "%[1]s и ещё %[2]d человека подписаны на вас", "other", "%[1]s и ещё %[2]d человек подписаны на вас")},
		keyTest:         {catalog.String("Проверка уведомлений")},
		keyTestBody:     {catalog.String("Это устройство получает уведомления.")},
		keyUnread:       {plural.Selectf(1, "%d", "one", "%[1]d непрочитанное", "few", "%[1]d непрочитанных", "other", "%[1]d непрочитанных")},
		fallbackMessage: {catalog.String("У вас новое уведомление")},
	},
}

// Catalog has the texts of all languages. It is safe for concurrent use.
type Catalog struct {
	catalog *catalog.Builder
	matcher language.Matcher
}

// New returns the catalog.
func New() (*Catalog, error) {
	builder := catalog.NewBuilder(catalog.Fallback(language.English))
	for tag, messages := range texts {
		for key, m := range messages {
			if err := builder.Set(tag, key, m...); err != nil {
				return nil, err
			}
		}
	}
	return &Catalog{catalog: builder, matcher: builder.Matcher()}, nil
}

// Subject is what a push tells of.
type Subject struct {
	Kind pb.NotificationType
	// Actor is who did it; of several the newest.
	Actor string
	// Actors counts the different people, Events what they did.
	Actors, Events int
	// Unread is the count of the whole inbox.
	Unread int
}

// Text returns title and body in the language that comes nearest to the tag.
func (c *Catalog) Text(tag language.Tag, s Subject) (title, body string) {
	p := c.printer(tag)
	// More than this one is unread: the body says how much.
	if s.Unread > max(s.Events, 1) {
		body = p.Sprintf(keyUnread, s.Unread)
	}
	switch {
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_POST && s.Events > 1:
		title = p.Sprintf(keyPosts, s.Actor, s.Events)
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_POST:
		title = p.Sprintf(keyPost, s.Actor)
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_MENTION && s.Events > 1:
		title = p.Sprintf(keyMentions, s.Actor, s.Events)
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_MENTION:
		title = p.Sprintf(keyMention, s.Actor)
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_FOLLOW && s.Actors > 1:
		title = p.Sprintf(keyFollows, s.Actor, s.Actors-1)
	case s.Kind == pb.NotificationType_NOTIFICATION_TYPE_FOLLOW:
		title = p.Sprintf(keyFollow, s.Actor)
	default:
		title = p.Sprintf(fallbackMessage)
	}
	return title, body
}

// Test returns the text of a test push.
func (c *Catalog) Test(tag language.Tag) (title, body string) {
	p := c.printer(tag)
	return p.Sprintf(keyTest), p.Sprintf(keyTestBody)
}

func (c *Catalog) printer(tag language.Tag) *message.Printer {
	// The index, not the tag: that one may carry extensions of the person's tag.
	_, i, _ := c.matcher.Match(tag)
	return message.NewPrinter(c.catalog.Languages()[i], message.Catalog(c.catalog))
}
