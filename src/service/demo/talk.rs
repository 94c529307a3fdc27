//! What is said in a demo club.

/// Who says a line of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Whoever begins it.
    One,
    /// The other one.
    Other,
}

use Speaker::{One, Other};

/// A short conversation.
pub(super) type Talk = &'static [(Speaker, &'static str)];

/// What members talk about, in turns.
pub(super) const TALKS: [Talk; 14] = [
    &[
        (One, "Are you coming to the dinner on Thursday?"),
        (Other, "Yes! I have two guests with me. Is that all right?"),
        (One, "Of course, I’ll tell the kitchen. Any allergies?"),
        (Other, "One of them eats no nuts. Thank you 🙏"),
    ],
    &[
        (One, "I enjoyed your talk yesterday. Would you share the slides?"),
        (Other, "Gladly, I’ll send them tonight."),
        (One, "Perfect. The part about storage was news to me."),
        (Other, "There is more to it than fits into twenty minutes. Coffee next week?"),
        (One, "Tuesday, ten o’clock, in the library?"),
        (Other, "See you there."),
    ],
    &[
        (One, "Do you know anybody who restores old maps?"),
        (Other, "Ask Giulia, she did ours. Shall I introduce you?"),
        (One, "Please do!"),
    ],
    &[
        (One, "The tasting on Saturday is full, but I kept a place for you."),
        (Other, "You are a treasure. What do I bring?"),
        (One, "Only a good nose 🍷"),
    ],
    &[
        (One, "Is the squash court free tomorrow at seven?"),
        (Other, "It is, I’ve just booked it. Best of five?"),
        (One, "Best of five. Loser buys breakfast."),
        (Other, "I’ll have the pancakes, then."),
    ],
    &[
        (One, "We are looking for a second investor for the Porto project."),
        (Other, "Send me the numbers, I’ll read them on the train."),
        (One, "They are in your mailbox. Short version: 14 flats, one courtyard, no debt."),
        (Other, "That sounds interesting. Can we call on Friday?"),
    ],
    &[
        (One, "Welcome to the club! If you need anything, just write to me."),
        (Other, "Thank you, everybody has been so kind already."),
        (One, "The house tour is on Monday at six. Shall I put you on the list?"),
        (Other, "Yes, please."),
    ],
    &[
        (One, "Did you leave a grey scarf in the bar?"),
        (Other, "I did! I thought it was lost on the tram."),
        (One, "It is at the reception, with your name on it."),
    ],
    &[
        (One, "Your daughter’s concert was wonderful."),
        (Other, "She was so nervous. I’ll tell her, she will be delighted."),
        (One, "Tell her we want an encore in spring."),
    ],
    &[
        (One, "Could you look at one page of a contract for me? No hurry."),
        (Other, "Sure. Is Wednesday early enough?"),
        (One, "More than early enough. Lunch is on me."),
        (Other, "Then I’ll read it twice 😄"),
    ],
    &[
        (One, "The speaker for the 12th has cancelled. Would you step in?"),
        (Other, "What would I talk about?"),
        (One, "Whatever you told us at the bar last week. Nobody went home."),
        (Other, "All right. Thirty minutes, and no slides."),
    ],
    &[
        (One, "How was Reykjavík?"),
        (Other, "Cold, bright, and far too short. I have photos."),
        (One, "Bring them on Thursday!"),
    ],
    &[
        (One, "I have a spare ticket for the opera on Sunday. Interested?"),
        (Other, "Very. What is it?"),
        (One, "Rusalka, third row."),
        (Other, "I’ll be there at half past six."),
    ],
    &[
        (One, "Quick question: who looks after the wine cellar now?"),
        (Other, "María José, since March. She is in the directory."),
        (One, "Found her, thanks."),
    ],
];
