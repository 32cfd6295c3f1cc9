"use strict";
// Question: {card}. Verdict: {events, failures, card}: what the parser objected to, which properties are not valid,
// and the card as it was understood.

const { AdaptiveCard, SerializationContext, Version } = require("adaptivecards/dist/adaptivecards"); // its main file needs a bundler

require("./lines")(({ card }) => {
  const context = new SerializationContext(Version.parse(card.version));
  const understood = new AdaptiveCard();
  understood.parse(card, context);
  const events = Array.from({ length: context.eventCount }, (_, at) => context.getEventAt(at).message);
  const failures = understood.validateProperties().validationEvents.map(({ message }) => message);
  return { events, failures, card: understood.toJSON() };
});
