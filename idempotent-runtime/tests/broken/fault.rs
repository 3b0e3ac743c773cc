//! The ways to be wrong, and which cases of the kit must find them.

use idempotent_runtime::store::conformance::Rule;

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $fault:ident => $rule:ident, [$($case:ident),+];)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $what])+ $fault,)+
            /// Every call is an error. No rule in particular.
            Unavailable,
        }

        /// Each fault, the rule it breaks, and cases that must say so.
        pub(crate) const FAULTS: &[(Fault, Rule, &[&str])] = &[
            $((Fault::$fault, Rule::$rule, &[$(stringify!($case)),+]),)+
        ];
    };
}

faults! {
    /// A stranger's completion is taken.
    UnfencedCompletion => Fencing, [
        only_the_owner_completes,
        taken_over_owner_can_write_no_more,
        strangers_lose_every_race
    ];
    /// A stranger's release is taken.
    UnfencedRelease => Fencing, [only_the_owner_releases, released_key_is_free];
    /// A stranger's renewal is taken.
    UnfencedRenewal => Fencing, [only_the_owner_renews];
    /// A stranger abandons the claim.
    UnfencedAbandoning => Fencing, [only_the_owner_abandons];
    /// The token stays with the record that its owner abandoned.
    AbandoningKeepsTheToken => Fencing, [
        abandoned_token_writes_nothing,
        late_question_of_an_abandoned_take_over_acquires_nothing,
        owner_abandons_after_its_lease,
        renewal_never_undoes_an_abandoning
    ];
    /// Whose lease has ended has nothing to abandon.
    AbandoningNeedsALease => Fencing, [owner_abandons_after_its_lease];
    /// A renewal looks, and writes later what it then saw.
    RenewalIsGetThenSet => Fencing, [renewal_never_undoes_an_abandoning];
    /// A release does not look at the state.
    CompletedIsReleased => Fencing, [
        completed_record_takes_no_writes,
        owner_completes_or_releases_and_never_both
    ];
    /// A take-over leaves the claim with the old owner.
    TakeOverKeepsTheToken => Fencing, [
        taken_over_owner_can_write_no_more,
        taken_over_token_is_a_stranger_to_claims,
        new_owner_can_write
    ];
    /// Tokens are compared but for their last byte.
    TokenWithoutItsLastByte => Fencing, [tokens_one_bit_apart_are_strangers];
    /// One lost claim fails the renewal of all.
    RenewalsShareTheirFate => SharedFate, [renewals_have_results_of_their_own];
    /// One lost claim fails the release of all.
    ReleasesShareTheirFate => SharedFate, [releases_have_results_of_their_own];
    /// One lost claim fails the abandoning of all.
    AbandoningsShareTheirFate => SharedFate, [abandonings_have_results_of_their_own];
    /// Results in the order in which the table has the rows.
    ResultsInTheOrderOfKeys => SharedFate, [
        renewals_have_results_of_their_own,
        releases_have_results_of_their_own,
        abandonings_have_results_of_their_own
    ];
    /// The empty list makes a statement with one result.
    EmptyBatchHasAResult => SharedFate, [empty_batch_has_no_results];
    /// A release leaves the row, abandoned.
    ReleaseEndsTheLeaseOnly => Fencing, [released_key_is_free, new_owner_can_write];
    /// Each lease is as long as that of the first in the batch.
    RenewalsAreAsLongAsTheFirst => SharedFate, [each_renewal_has_its_own_length];
    /// The result of a key is that of its last token.
    ResultsAreByKey => SharedFate, [tokens_of_one_key_have_results_of_their_own];
    /// A batch with one claim twice is refused, as an update of one row twice.
    TwiceIsAFailure => SharedFate, [one_owner_twice_is_no_failure];
    /// What is over a thousand is left out.
    BatchIsCut => SharedFate, [large_batch_has_all_its_results];
    /// One locked record fails the batch.
    LockedFailsTheBatch => SharedFate, [
        locked_record_delays_no_other_renewal,
        locked_record_delays_no_other_release,
        locked_record_delays_no_other_abandoning
    ];
    /// A batch waits for the lock.
    LockedIsWaitedFor => SharedFate, [
        locked_record_delays_no_other_renewal,
        locked_record_delays_no_other_release,
        locked_record_delays_no_other_abandoning,
        locked_record_is_busy_and_not_lost
    ];
    /// What is locked is skipped, and said to be lost.
    LockedIsLost => SharedFate, [
        locked_record_delays_no_other_renewal,
        locked_record_is_busy_and_not_lost
    ];
    /// One lock locks the table.
    LockIsOfTheTable => SharedFate, [locked_record_delays_no_other_key];
    /// A call that was dropped never gives its connection back.
    GivenUpKeepsItsConnection => GivenUp, [
        claim_that_was_given_up_holds_nothing,
        take_over_that_was_given_up_holds_nothing,
        renewal_that_was_given_up_holds_nothing,
        progress_that_was_given_up_holds_nothing,
        completion_that_was_given_up_holds_nothing,
        release_that_was_given_up_holds_nothing,
        abandoning_that_was_given_up_holds_nothing,
        reads_and_removals_that_were_given_up_hold_nothing
    ];
    /// The row is written first, and its token after that.
    GivenUpClaimIsHalfDone => GivenUp, [
        claim_that_was_given_up_holds_nothing,
        take_over_that_was_given_up_holds_nothing
    ];
    /// The token is taken first, and the response is written after that.
    GivenUpCompletionIsHalfDone => GivenUp, [completion_that_was_given_up_holds_nothing];
    /// The token is taken first, and the row is removed after that.
    GivenUpReleaseIsHalfDone => GivenUp, [release_that_was_given_up_holds_nothing];
    /// A claim looks, and writes later what it then decided.
    GetThenSet => AtomicClaim, [
        one_of_sixteen_claims_is_acquired,
        one_of_sixteen_take_overs_is_acquired
    ];
    /// The owner is told that its own claim is in flight.
    ClaimForgetsItsToken => AtomicClaim, [
        claim_is_idempotent_per_token,
        all_claims_of_one_token_are_acquired
    ];
    /// The owner is told that its own claim is abandoned.
    ClaimForgetsItsTokenWithTheLease => AtomicClaim, [
        claim_is_idempotent_per_token_after_its_lease
    ];
    /// A repeated take-over finds itself in flight.
    TakeOverForgetsItsToken => AtomicClaim, [take_over_is_idempotent_per_token];
    /// `take_over` is a flag.
    TakeOverOfAnyAttempt => AtomicClaim, [take_over_names_the_attempt];
    /// A take-over begins a record of its own.
    TakeOverResetsTheAge => AtomicClaim, [take_over_counts_and_the_age_goes_on];
    /// A first claim is held for as long as the record lives.
    LeaseIsAsLongAsTheTtl => AtomicClaim, [absent_key_is_acquired, second_token_finds_it_in_flight];
    /// The first claim counts from the attempt that it would take over.
    FirstClaimTakesTheAttempt => AtomicClaim, [absent_key_is_acquired_whatever_is_taken_over];
    /// A column that is one byte too short.
    KeyWithoutItsLastByte => AtomicClaim, [keys_one_bit_apart_never_meet];
    /// A column of text without regard to case.
    KeyWithoutCase => AtomicClaim, [keys_that_text_would_merge_never_meet];
    /// The fingerprint is compared when nothing else has answered.
    StateBeforeFingerprint => FingerprintFirst, [
        another_request_while_running_is_a_mismatch,
        another_request_when_abandoned_is_a_mismatch,
        another_request_when_completed_is_a_mismatch
    ];
    /// Fingerprints are compared but for their last byte.
    FingerprintWithoutItsLastByte => FingerprintFirst, [fingerprints_one_bit_apart_are_apart];
    /// The row goes when the lease ends.
    LeaseIsTheTtl => LeaseIsNotLife, [
        ended_lease_is_abandonment_and_not_absence,
        ended_lease_is_renewed_by_its_owner
    ];
    /// The retention counts from the claim.
    RetentionCountsFromTheClaim => LeaseIsNotLife, [abandoned_record_lives_for_its_retention];
    /// An abandoned record stays until it is resolved.
    RetentionIsForEver => LeaseIsNotLife, [abandoned_record_lives_for_its_retention];
    /// 32 bits of milliseconds.
    LifeIsCut => LeaseIsNotLife, [decades_do_not_overflow];
    /// The claim goes on until its lease ends by itself.
    AbandoningKeepsTheLease => LeaseIsNotLife, [
        abandoned_claim_says_so_at_once,
        abandoning_keeps_attempt_progress_and_expiry
    ];
    /// The record goes with the claim.
    AbandoningRemoves => LeaseIsNotLife, [
        abandoned_claim_says_so_at_once,
        abandoned_claim_lives_for_its_retention
    ];
    /// The retention counts anew.
    AbandoningMovesTheExpiry => LeaseIsNotLife, [abandoning_keeps_attempt_progress_and_expiry];
    /// What the next attempt would have needed goes.
    AbandoningDropsTheProgress => LeaseIsNotLife, [abandoning_keeps_attempt_progress_and_expiry];
    /// A missing token is not equal to another one, and not unequal either.
    AbandonedIsNotTakenOver => LeaseIsNotLife, [abandoned_claim_is_taken_over];
    /// The lease is not looked at when a take-over names the attempt.
    TakeOverOfALiveLease => LeaseIsNotLife, [live_lease_is_not_taken_over];
    /// The second attempt dies with the first.
    TakeOverKeepsTheExpiry => LeaseIsNotLife, [take_over_begins_a_new_life];
    /// Whose lease has ended cannot complete.
    CompletionNeedsALease => LeaseIsNotLife, [owner_completes_and_releases_after_its_lease];
    /// Grace is said to be given, and is not.
    GraceIsForgotten => LeaseIsNotLife, [grace_is_a_lease_of_the_same_owner];
    /// The owner is gone when it comes back.
    GraceTakesTheToken => LeaseIsNotLife, [grace_is_a_lease_of_the_same_owner];
    /// The record goes while its owner has a lease.
    GraceKeepsTheExpiry => LeaseIsNotLife, [grace_moves_the_expiry];
    /// Grace is given to whichever attempt there is.
    GraceForAnyAttempt => Fencing, [grace_is_for_the_attempt_that_is_named];
    /// A lease that runs is cut short, or made longer.
    GraceForTheLiving => Fencing, [living_claim_gets_no_grace];
    /// A claim that cannot be renewed waits for its owner.
    GraceForWhoGaveUp => Fencing, [claim_that_its_owner_abandoned_gets_no_grace];
    /// A response is kept for as long as a lease.
    GraceForTheCompleted => Fencing, [completed_record_gets_no_grace];
    /// Claims are held, and not extended.
    RenewalDoesNothing => LeaseIsNotLife, [renewal_extends_the_lease];
    /// A renewal after the lease is taken and does nothing.
    RenewalNeedsALease => LeaseIsNotLife, [ended_lease_is_renewed_by_its_owner];
    /// A renewal for no time is taken for none.
    RenewalOfZeroIsNone => LeaseIsNotLife, [renewal_of_zero_ends_the_lease];
    /// The record goes while its claim is held.
    RenewalKeepsTheExpiry => LeaseIsNotLife, [renewal_moves_the_expiry];
    /// The record goes with its lease once it was renewed.
    RenewalForgetsTheRetention => LeaseIsNotLife, [renewal_moves_the_expiry];
    /// A renewal only ever puts the expiry off.
    RenewalNeverShortensTheLife => LeaseIsNotLife, [renewal_moves_the_expiry];
    /// The response goes when its claim would have.
    CompletionKeepsTheExpiry => Immutable, [completion_sets_the_expiry];
    /// The TTL counts from the claim.
    TtlCountsFromTheClaim => Immutable, [completion_sets_the_expiry];
    /// The TTL counts from the end of the lease.
    TtlCountsFromTheLease => Immutable, [completion_sets_the_expiry];
    /// A response is kept for as long as an abandoned claim would have been.
    CompletionKeepsTheLongerLife => Immutable, [completion_sets_the_expiry];
    /// The last completion wins.
    SecondCompletionOverwrites => Immutable, [first_completion_stays];
    /// A repeated completion lives longer.
    SecondCompletionMovesTheExpiry => Immutable, [first_completion_stays];
    /// A repeated completion says that it was the first.
    SecondCompletionIsStored => Immutable, [first_completion_stays];
    /// A completed record is abandoned when its lease ends.
    LeaseEndsCompletion => Immutable, [completed_outlives_its_lease];
    /// Expired is absent only once it was swept.
    ExpiredIsStillThere => Immutable, [
        expired_is_absent_to_every_operation,
        expired_key_starts_over
    ];
    /// A claim of an expired key goes on counting.
    ExpiredKeyGoesOn => Immutable, [expired_key_starts_over];
    /// The sweep goes by the lease.
    PurgeTakesAbandoned => Immutable, [purge_takes_nothing_alive];
    /// The sweep takes all there is.
    PurgeHasNoLimit => Immutable, [purge_takes_nothing_alive];
    /// A column of text.
    BodyIsText => Immutable, [bodies_come_back_byte_for_byte];
    /// A body that was not kept comes back empty.
    NoBodyIsAnEmptyBody => Immutable, [bodies_come_back_byte_for_byte];
    /// One value for each header.
    HeadersAreAMap => Immutable, [headers_come_back_in_order];
    /// Headers in the order of their names.
    HeadersAreSorted => Immutable, [headers_come_back_in_order];
    /// A stranger's progress is taken.
    UnfencedProgress => Fencing, [
        only_the_owner_saves_progress,
        taken_over_owner_saves_no_progress
    ];
    /// Progress is taken when there is an answer already.
    CompletedTakesProgress => Fencing, [completed_claim_saves_no_progress];
    /// Progress of a record that is not there is said to be saved.
    AbsentTakesProgress => Fencing, [record_that_is_gone_takes_no_progress];
    /// Whose lease has ended cannot save.
    ProgressNeedsALease => LeaseIsNotLife, [progress_is_saved_after_the_lease];
    /// Saving is taken for a renewal.
    ProgressRenewsTheLease => LeaseIsNotLife, [progress_moves_neither_lease_nor_expiry];
    /// Saving is taken for a use.
    ProgressMovesTheExpiry => LeaseIsNotLife, [progress_moves_neither_lease_nor_expiry];
    /// Saving looks at what is kept, and writes later.
    ProgressIsGetThenSet => AtomicClaim, [
        longest_of_sixteen_saved_at_once_stays,
        progress_and_completion_at_once_leave_the_completion
    ];
    /// Where it begins is compared before whose it is.
    StrangerIsBehind => Fencing, [stranger_is_lost_and_not_behind];
    /// All that is sent is appended.
    AppendIgnoresTheOffset => Documented, [overlap_is_appended_once, progress_only_grows];
    /// The last piece stays.
    LastPieceStays => Documented, [progress_is_appended_in_pieces, heir_appends_to_what_it_found];
    /// What begins too late is dropped, and said to be saved.
    BehindIsSaved => Documented, [progress_behind_its_offset_is_not_written];
    /// What begins too late is appended all the same.
    BehindIsAppended => Documented, [progress_behind_its_offset_is_not_written];
    /// The caller is told its own offset.
    BehindTellsTheOffset => Documented, [progress_behind_its_offset_is_not_written];
    /// Progress is taken and not kept.
    ProgressIsForgotten => Documented, [saved_progress_is_read];
    /// A column of text.
    ProgressIsText => Documented, [progress_comes_back_byte_for_byte];
    /// A column of at most 65,535 bytes, and what is longer is cut.
    ProgressIsCut => Documented, [progress_comes_back_byte_for_byte];
    /// The last call wins.
    LastProgressStays => Documented, [progress_only_grows, take_over_keeps_the_progress];
    /// What is known already is written over.
    ProgressIsOverwritten => Documented, [progress_only_grows];
    /// A late call is told that the claim is lost.
    LateProgressIsLost => Documented, [progress_only_grows];
    /// A renewal writes the row anew.
    RenewalDropsTheProgress => Documented, [progress_stays_while_the_claim_is_held];
    /// A take-over writes the row anew.
    TakeOverDropsTheProgress => Documented, [take_over_keeps_the_progress];
    /// A new record has not what its claim brings.
    FirstClaimDropsItsProgress => Documented, [first_claim_brings_its_progress];
    /// A take-over brings what it would bring to a new record.
    TakeOverBeginsItsOwnProgress => Documented, [progress_that_a_claim_brings_is_for_a_new_record];
    /// A completion leaves what the next attempt would have needed.
    CompletionKeepsTheProgress => Documented, [completion_drops_the_progress];
    /// What was saved stays behind when its record goes.
    ProgressOutlivesItsRecord => Documented, [released_or_removed_key_starts_without_progress];
    /// An expired row is claimed anew, but for its progress.
    ExpiredKeyKeepsTheProgress => Documented, [expired_key_starts_without_progress];
    /// A read counts as a use.
    ReadingProlongs => Documented, [reading_tells_the_state_and_changes_nothing];
    /// The operation of the last claim stays.
    OperationIsTheLastOne => Documented, [first_claim_names_the_operation];
    /// A column of at most 64 characters.
    OperationIsCut => Documented, [first_claim_names_the_operation];
    /// A listing has all records of a label.
    ListingIgnoresTheState => Documented, [listing_tells_states_and_names];
    /// A listing tells no sizes.
    ListingCountsNothing => Documented, [listing_tells_states_and_names];
    /// A listing ends with its first page.
    ListingHasOnePage => Documented, [listing_has_each_record_once_while_others_come_and_go];
    /// A purge only counts.
    PurgeNamesNobody => Documented, [purge_names_the_abandoned];
    /// A purge names all that it has removed.
    PurgeNamesTheCompleted => Documented, [purge_names_the_abandoned];
    /// A purge does not say what the abandoned were.
    PurgeForgetsTheOperation => Documented, [purge_names_the_abandoned];
    /// Only what is not completed can be removed.
    CompletedIsNotRemoved => Documented, [removed_key_is_free];
    /// Waiters wait for ever.
    NobodyIsWoken => Documented, [
        completion_wakes_those_who_wait,
        release_wakes_those_who_wait,
        abandoning_wakes_those_who_wait,
        change_between_subscribing_and_waiting_is_not_missed
    ];
    /// Who waits for an abandoned claim is not told.
    AbandoningWakesNobody => Documented, [abandoning_wakes_those_who_wait];
    /// A subscription begins when it is waited for.
    SubscriptionBeginsLate => Documented, [change_between_subscribing_and_waiting_is_not_missed];
}
